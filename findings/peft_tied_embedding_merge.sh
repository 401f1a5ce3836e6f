#!/usr/bin/env bash
# peft 0.21.2: LoRA on the token embedding of a language model whose output layer is tied to it. Before `merge_and_unload`
# the update reaches the inputs alone; merged, it stands in the shared matrix and reaches the outputs too: every logit
# changes, and nothing is said. (With `lm_head` as the target, the other end of the same matrix, peft warns.)
# Untied beforehand, the same adapter merges exactly. Seen with torch 2.13.0, transformers 5.23.0.
# QingFormer: `merge_lora` refuses to merge into a matrix that something else shares.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet torch==2.13.0
"$folder/env/bin/python" -m pip install --quiet transformers==5.23.0 peft==0.21.2
cat > "$folder/look.py" <<'PY'
import sys
import warnings

import peft
import torch
import transformers

tokens = torch.tensor([[1, 2, 3, 4]])


def difference(target: str, tied: bool) -> tuple[float, bool]:
    """Largest change of a logit by the merge, and whether a warning spoke of tying."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0, tie_word_embeddings=tied
    )
    lora = peft.LoraConfig(r=2, lora_alpha=4, target_modules=[target], init_lora_weights=False)
    with warnings.catch_warnings(record=True) as said, torch.no_grad():
        warnings.simplefilter("always")
        model = peft.get_peft_model(transformers.GPT2LMHeadModel(config).eval(), lora).eval()
        before = model(tokens).logits
        after = model.merge_and_unload()(tokens).logits
    return float((before - after).abs().max()), any("tie" in str(w.message) for w in said)


tied, warned = difference("wte", True)
untied, _ = difference("wte", False)
_, warned_at_output = difference("lm_head", True)
print(f"peft {peft.__version__}: target wte, tied: largest change of a logit {tied:.2f}, warning about tying: {warned}")
print(f"peft {peft.__version__}: target wte, untied: largest change of a logit {untied:.2e}")
print(f"peft {peft.__version__}: target lm_head, tied: warning about tying: {warned_at_output}")
sys.exit(not (tied > 1 and not warned and untied < 1e-3 and warned_at_output))
PY
"$folder/env/bin/python" "$folder/look.py" 2>/dev/null || { echo "changed"; exit 1; }
echo "as described"
