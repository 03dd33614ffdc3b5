"""Models from and to the formats of others; `directory`, the `transformers` directory, is where our models live too.

A family's file says which architectures it reads (`ARCHITECTURES`), how their tensors correspond to ours
(`correspondence`), and how their `config.json` does (`config_from_transformers`, `config_to_transformers`); `tensors`
and `fields` are what they share. `gguf` reads and writes the files of llama.cpp, `ctranslate2` writes for CTranslate2.
"""
