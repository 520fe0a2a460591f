"""Engines that batch by themselves, behind the OpenAI API: vLLM, SGLang, llama.cpp, a cloud."""
