"""Other makers' APIs, each as a translation onto a chat: a body becomes a `ChatBody`, and a `Call`
of its own kind writes what comes back in that API's shapes. What a translation cannot carry is
refused by name.
"""
