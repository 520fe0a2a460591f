"""How long a test waits for what must happen. No test asserts a duration: only one that fails
waits so long, and machines that share their processor with others can be very slow."""

PATIENCE_S = 300.0
