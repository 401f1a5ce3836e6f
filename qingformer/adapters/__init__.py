"""Low-rank adapters (LoRA): on dense layers, in models, and in files, those of the library `peft` among them."""
