"""Tiny GGUF files, written from the networks of `tests.tiny_models`."""

import gguf
import numpy as np

from tests.tiny_models import VOCAB

# Ids 0 to 2 are control tokens; the others stand for a character each, and one for two.
CHARACTERS = [chr(at) for at in range(ord("a"), ord("a") + VOCAB - 4)]
TOKENS = ["<pad>", "<s>", "</s>", *CHARACTERS, "ab"]
CHAT = (
    "{% for message in messages %}<s>{{ message['role'] }}"
    "{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant{% endif %}"
)

_OF_A_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_OTHERS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def write_gguf(
    path,
    model,
    *,
    tokens=(TOKENS, ["a b"]),
    types=None,
    chat=CHAT,
    causal=True,
    tensors_in_part=0,
):
    """Write a transformers Llama as a GGUF file in float32, or as several."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=tensors_in_part)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_causal_attention(causal)
    add_vocabulary(writer, *tokens, types=types, chat=chat)
    for name, weights in model.state_dict().items():
        values = weights.numpy().astype(np.float32)
        if "q_proj" in name:
            values = _interleaved(values, config.num_attention_heads)
        if "k_proj" in name:
            values = _interleaved(values, config.num_key_value_heads)
        writer.add_tensor(_name(name), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_vocabulary(writer, tokens, merges, *, types=None, chat=CHAT):
    """Add a byte-level BPE vocabulary whose first three tokens are control tokens."""
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types or [control] * 3 + [normal] * (len(tokens) - 3))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if chat is not None:
        writer.add_chat_template(chat)


def _name(name):
    if name in _OTHERS:
        return _OTHERS[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_OF_A_LAYER[rest.removesuffix('.weight')]}.weight"


def _interleaved(weights, n_heads):
    """Reorder rows: llama.cpp rotates neighbours, transformers the halves of a head."""
    halves = weights.reshape(n_heads, 2, -1, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)
