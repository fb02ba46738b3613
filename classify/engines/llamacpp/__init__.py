"""The engine on llama.cpp: a GGUF file in this process.

The only package that imports xllamacpp, and through it llama.cpp.
"""
