"""What must hold of the families whatever their weights: positions, masks, norms, sharing, counts."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from qingformer.models import FAMILIES, Backbone, CausalLM, MaskedLM, Seq2SeqLM
from qingformer.ops.attention_weights import attention_weights
from qingformer.ops.relative_distances import distances_to_keys, relative_table
from qingformer.ops.rotary import apply_rotary, rotary_table
from tests.models import random_models
from tests.models.random_models import numpy

# Two lengths for all tests: on JAX, every new shape costs the compilation of each operation. Both are above the sixteen
# keys at which softmax_plus begins to count.
ROWS, LENGTH, KEPT = 2, 21, 18
ENCODERS = sorted(name for name, family in FAMILIES.items() if "encoder" in family.spec.applications)
CAUSAL = sorted(name for name, family in FAMILIES.items() if "lm" in family.spec.applications)
UNILM = sorted(name for name, family in FAMILIES.items() if "unilm" in family.spec.applications)
ROTARY = ["gau_alpha", "roformer", "roformer_sim", "roformer_v2"]


@functools.cache
def made(kind: type, family: str, **options):
    """One model for all tests that only look at it."""
    return random_models.build(kind, family, **options)


def tokens(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 29, (ROWS, LENGTH)).astype("int32")


def rows_of(*counts: int) -> np.ndarray:
    """Runs of zeros and ones in turn, the last up to the end, the same for all rows."""
    row = np.concatenate([np.full(count, index % 2) for index, count in enumerate((*counts, LENGTH - sum(counts)))])
    return np.repeat(row[None].astype("int32"), ROWS, 0)


def outputs(model, token_ids, segment_ids=None, padding_mask=None, **more) -> np.ndarray:
    """Logits, or a backbone's hidden states; every input that the model has, given outright."""
    inputs = {
        "token_ids": token_ids,
        "segment_ids": np.zeros_like(token_ids) if segment_ids is None else segment_ids,
        "padding_mask": np.ones_like(token_ids) if padding_mask is None else padding_mask,
        **more,
    }
    result = model(random_models.accepted(model, inputs))
    return numpy(result["sequence_output"] if isinstance(model, Backbone) else result)


def same(there, wanted, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(there, wanted, atol=atol, rtol=0)


def distance(there, wanted) -> float:
    return np.abs(np.asarray(there) - wanted).max()


def replaced(token_ids: np.ndarray, *positions: int) -> np.ndarray:
    """Other tokens at these positions of every row."""
    changed = token_ids.copy()
    for position in positions:
        changed[:, position] = changed[:, position] % 28 + 1
    return changed


# --- positions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interleaved", [True, False])
def test_rotary_products_depend_on_the_distance_alone_and_lengths_stay(interleaved):
    generator = np.random.default_rng(0)
    query, key = (generator.normal(size=(1, 1, 1, 10)).astype("float32") for _ in range(2))
    places = np.array([0, 3, 7, 50, 400, 1003])

    def turn(x, positions):
        table = rotary_table(ops.convert_to_tensor(positions)[None], 10)
        return numpy(apply_rotary(ops.convert_to_tensor(np.repeat(x, len(positions), 1)), table, interleaved))[0, :, 0]

    turned = turn(query, places)
    same(np.linalg.norm(turned, axis=-1), np.full(len(places), np.linalg.norm(query)), 1e-5)
    products = {d: (turned * turn(key, places + d)).sum(-1) for d in (0, 2, 5, 31)}
    for values in products.values():
        same(values, np.full(len(places), values[0]), 1e-3)  # angles of a thousand radians, rounded to float32
    assert distance(products[0], products[2]) > 0.1
    same(products[0], np.full(len(places), (query * key).sum()), 1e-5)


@pytest.mark.parametrize("family", ROTARY)
def test_rotary_models_do_not_see_a_shift_of_all_positions(family):
    model, token_ids = made(Backbone, family, custom_position_ids=True), tokens()
    positions = np.repeat(np.arange(LENGTH, dtype="int32")[None], ROWS, 0)
    before, shifted, stretched = (
        outputs(model, token_ids, position_ids=ids) for ids in (positions, positions + 17, 2 * positions)
    )
    same(shifted, before, 1e-4)
    assert distance(stretched, before) > 1e-2


def moved(model) -> tuple[np.ndarray, np.ndarray]:
    """The same five tokens without padding before them and with three hidden positions before them."""
    token_ids, mask = tokens(1), np.zeros((ROWS, LENGTH), "int32")
    for row, start in enumerate((0, LENGTH - KEPT)):
        token_ids[row, start : start + KEPT] = tokens()[0, :KEPT]
        mask[row, start : start + KEPT] = 1
    there = outputs(model, token_ids, padding_mask=mask)
    return there[0, :KEPT], there[1, LENGTH - KEPT :]


@pytest.mark.parametrize("family", [*ROTARY, "llama", "nezha", "t5"])
def test_content_may_stand_anywhere_where_positions_are_relative(family):
    first, later = moved(made(Backbone, family, application="encoder"))
    same(later, first, 1e-4)


def test_content_may_not_stand_anywhere_where_positions_are_absolute():
    first, later = moved(made(Backbone, "bert"))
    assert distance(later, first) > 1e-2


def test_nezha_does_not_tell_distances_beyond_the_clip_apart():
    model = made(Backbone, "nezha", num_hidden_layers=1, max_relative_position=3)
    token_ids = tokens()
    before = outputs(model, token_ids)[:, 0]
    for places, far in (([4, 7], True), ([3, 6], True), ([1, 2], False), ([2, 5], False)):
        swapped = token_ids.copy()
        swapped[:, places] = token_ids[:, places[::-1]]
        difference = distance(outputs(model, swapped)[:, 0], before)
        assert (difference < 1e-5) if far else (difference > 1e-3), places


def test_nezhas_vectors_are_constant_beyond_the_clip():
    table = relative_table(80, 6, 64)
    assert tuple(table.shape) == (129, 6)
    vectors = numpy(distances_to_keys(ops.broadcast_to(ops.transpose(table)[:, None], (6, 80, 129))))
    after, before = vectors[:, 0], vectors[:, -1]  # distances 0 ... 79 and -79 ... 0
    np.testing.assert_array_equal(after[:, 64:], np.repeat(after[:, 64:65], 16, 1))
    np.testing.assert_array_equal(before[:, :16], np.repeat(before[:, :1], 16, 1))
    told_apart = np.concatenate([before[:, 15:], after[:, 1:65]], axis=1)
    assert (np.abs(np.diff(told_apart, axis=1)).max(0) > 1e-3).all()


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", CAUSAL)
def test_later_tokens_do_not_change_earlier_outputs(family):
    model, token_ids = made(CausalLM, family, application="lm"), tokens()
    kinds = rows_of(2, 2, 1)
    before = outputs(model, token_ids, kinds)
    for cut in (1, 4, 7):
        after = outputs(model, replaced(token_ids, *range(cut, LENGTH)), kinds)
        same(after[:, :cut], before[:, :cut], 1e-6)
        assert distance(after[:, cut], before[:, cut]) > 1e-3
    first = outputs(model, replaced(token_ids, 0), kinds)
    assert (np.abs(first - before).max(-1) > 1e-4).all()


@pytest.mark.parametrize("family", UNILM)
def test_the_source_does_not_see_the_target_and_the_target_not_its_future(family):
    model, token_ids = made(CausalLM, family, application="unilm"), tokens()
    kinds = rows_of(4)
    before = outputs(model, token_ids, kinds)
    for cut in (4, 6):
        after = outputs(model, replaced(token_ids, *range(cut, LENGTH)), kinds)
        same(after[:, :cut], before[:, :cut], 1e-6)
        assert distance(after[:, cut], before[:, cut]) > 1e-3
    source = outputs(model, replaced(token_ids, 3), kinds)
    assert (np.abs(source - before).max(-1) > 1e-4).all()  # the source sees itself in both directions


@pytest.mark.parametrize("family", [name for name in UNILM if FAMILIES[name].spec.applications[0] == "encoder"])
def test_unilm_is_the_encoder_without_target_and_causal_without_source(family):
    token_ids, target = tokens(), np.ones((ROWS, LENGTH), "int32")
    roles = ("unilm", "lm", "encoder")
    unilm, causal, encoder = (made(random_models.kind_of(role), family, application=role) for role in roles)
    same(outputs(unilm, token_ids, target), outputs(causal, token_ids, target))
    same(outputs(unilm, token_ids), outputs(encoder, token_ids))
    assert distance(outputs(causal, token_ids), outputs(encoder, token_ids)) > 1e-2


@pytest.mark.parametrize(
    ("family", "application"), [(f, "encoder") for f in ENCODERS] + [(f, "lm") for f in CAUSAL if f not in ENCODERS]
)
def test_appended_padding_changes_nothing(family, application):
    model = made(Backbone, family, application=application)
    token_ids, kinds, mask = tokens(), rows_of(7, 11), rows_of(0, KEPT)
    token_ids[1, KEPT:] = 0  # what stands in the hidden positions does not matter, padding or not
    alone = outputs(model, token_ids[:, :KEPT], kinds[:, :KEPT])
    same(outputs(model, token_ids, kinds, mask)[:, :KEPT], alone)
    if application == "encoder":
        assert distance(outputs(model, token_ids, kinds)[:, :KEPT], alone) > 1e-3


@pytest.fixture(scope="module")
def translate():
    """What a random decoder says to tokens and a source; masks of ones where none is given."""
    model = random_models.build(Seq2SeqLM, "t5")

    def run(source, target, source_mask=None, target_mask=None):
        given = {"token_ids": source, "padding_mask": source_mask}
        given |= {"decoder_token_ids": target, "decoder_padding_mask": target_mask}
        given = {name: np.ones_like(source) if array is None else array for name, array in given.items()}
        return numpy(model({name: ops.convert_to_tensor(array) for name, array in given.items()}))

    return run


def test_the_decoder_sees_the_whole_source_and_no_later_target(translate):
    source, target = tokens(), tokens(1)
    before = translate(source, target)
    for cut in (1, 6):
        after = translate(source, replaced(target, *range(cut, LENGTH)))
        same(after[:, :cut], before[:, :cut], 1e-6)
        assert distance(after[:, cut], before[:, cut]) > 1e-3
    for position in (0, LENGTH - 1):
        assert (np.abs(translate(replaced(source, position), target) - before).max(-1) > 1e-5).all()


def test_padding_of_source_and_target_changes_nothing(translate):
    source, target, mask = tokens(), tokens(1), rows_of(0, KEPT)
    alone = translate(source[:, :KEPT], target[:, :KEPT])
    same(translate(source, target, mask, mask)[:, :KEPT], alone)
    assert distance(translate(source, target, None, mask)[:, :KEPT], alone) > 1e-3


def test_tta_never_sees_the_token_that_it_predicts():
    model = made(MaskedLM, "tta")
    blocks = [model.get_layer(f"block_{index}").output for index in range(model.config.num_hidden_layers)]
    cut, token_ids = keras.Model(model.inputs, [*blocks, model.output]), tokens()

    def depths(token_ids):
        given = {"token_ids": token_ids, "segment_ids": 0 * token_ids, "padding_mask": 0 * token_ids + 1}
        return [numpy(x) for x in cut([ops.convert_to_tensor(given[tensor.name]) for tensor in model.inputs])]

    before = depths(token_ids)
    for position in range(LENGTH):
        after = depths(replaced(token_ids, position))
        for was, now in zip(before, after, strict=True):
            np.testing.assert_array_equal(now[:, position], was[:, position])  # to the bit, at every depth
            others = np.arange(LENGTH) != position
            assert np.abs(now - was)[:, others].max(-1).min() > 1e-5


def test_tta_sees_its_token_in_fine_tuning():
    model, token_ids = made(MaskedLM, "tta", mask_diagonal=False), tokens()
    assert distance(outputs(model, replaced(token_ids, 3))[:, 3], outputs(model, token_ids)[:, 3]) > 1e-3


def test_tta_with_a_single_token_sees_nothing_at_all():
    alone, model, token_ids = rows_of(0, 1), made(MaskedLM, "tta"), tokens()
    before = outputs(model, token_ids, padding_mask=alone)
    after = outputs(model, (token_ids + 1) % 20, padding_mask=alone)
    assert np.isfinite(before).all()
    np.testing.assert_array_equal(before[:, 0], after[:, 0])


# --- norms and gates --------------------------------------------------------------------------------------------------


def test_roformer_v2_has_neither_biases_nor_learned_norms_and_blocks_of_rms_one():
    model = made(MaskedLM, "roformer_v2")
    paths = list(model.named_variables())
    assert not [path for path in paths if path.split("/")[-1] in ("bias", "beta", "gamma")]
    assert len(paths) == 2 + 6 * 2  # token and segment table; query, key, value, output and two kernels a block
    *blocks, _ = random_models.run(
        model, {"token_ids": tokens(), "segment_ids": 0 * tokens(), "padding_mask": 0 * tokens() + 1}
    )
    for block in blocks:
        same(np.sqrt((block**2).mean(-1)), np.ones(block.shape[:-1]))


def assign(model, **factors: float) -> None:
    """Multiply the variables whose path contains the name (two underscores for a slash)."""
    for name, factor in factors.items():
        found = [v for path, v in model.named_variables().items() if name.replace("__", "/") in path]
        assert found, name
        for variable in found:
            variable.assign(factor * variable.value)


def test_roformer_v2_does_not_see_the_scale_of_what_its_norms_take():
    model, token_ids = random_models.build(Backbone, "roformer_v2"), tokens()
    before = outputs(model, token_ids)
    assign(model, token_embedding=3.0, segment_embedding=3.0)
    same(outputs(model, token_ids), before)
    assign(model, attention__output=2.0)
    assert distance(outputs(model, token_ids), before) > 1e-2


@pytest.mark.parametrize("family", ["roformer_v2", "gau_alpha"])
def test_blocks_that_add_nothing_pass_normed_vectors_on(family):
    model, token_ids = random_models.build(MaskedLM, family), tokens()
    assign(model, output__kernel=0.0)
    inputs = {"token_ids": token_ids, "segment_ids": 0 * token_ids, "padding_mask": 0 * token_ids + 1}
    first, second, _ = random_models.run(model, inputs)
    same(second, first)
    table, segment = (model.named_variables()[f"{name}_embedding/embeddings"] for name in ("token", "segment"))
    x = numpy(table.value)[token_ids] + numpy(segment.value)[0]
    same(first, x / np.sqrt((x**2).mean(-1, keepdims=True)))


def test_gpt2_ml_blocks_that_add_nothing_are_their_second_norm():
    model, token_ids = random_models.build(CausalLM, "gpt2_ml"), tokens()
    assign(model, output__kernel=0.0, output__bias=0.0)
    first, second, _ = random_models.run(model, {"token_ids": token_ids, "padding_mask": 0 * token_ids + 1})
    stored = random_models.stored_weights(model)
    centred = first - first.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    gain, offset = (stored[f"newslm/layer01/LayerNorm_mlp_ln1/{name}"] for name in ("gamma", "beta"))
    same(second, normed * gain + offset)


def count(layer) -> int:
    return sum(int(np.prod(variable.shape)) for variable in layer.trainable_variables)


def test_two_gated_units_are_one_attention_and_feed_forward_and_2ds_more():
    width, key_size = 12, 6
    gated = made(Backbone, "gau_alpha", intermediate_size=2 * width, attention_key_size=key_size)
    plain = made(Backbone, "roformer_v2", intermediate_size=4 * width)
    pair = count(gated.get_layer("block_0")) + count(gated.get_layer("block_1"))
    assert pair - count(plain.get_layer("block_0")) == 2 * width * key_size + 2 * 2 * key_size


# --- entropy-invariant scale ------------------------------------------------------------------------------------------


def test_softmax_plus_is_softmax_at_512_keys_and_only_there():
    scores = ops.convert_to_tensor(np.random.default_rng(0).normal(0, 2, (1, 2, 3, 600)).astype("float32"))
    for seen in (512, 100, 600):
        mask = ops.convert_to_tensor(np.arange(600) < seen)[None, None, None]
        plain, scaled = (numpy(attention_weights(scores, mask, name)) for name in ("softmax", "softmax_plus"))
        if seen == 512:
            same(scaled, plain, 1e-7)
        else:
            assert distance(scaled, plain) > 1e-4
    short = scores[..., :512]
    same(numpy(attention_weights(short, None, "softmax_plus")), numpy(attention_weights(short, None, "softmax")), 1e-7)


def test_softmax_plus_counts_sixteen_keys_at_least():
    scores = np.random.default_rng(0).normal(0, 2, (1, 1, 2, 5)).astype("float32")
    powers = np.exp(scores * np.log(16) / np.log(512))
    there = numpy(attention_weights(ops.convert_to_tensor(scores), None, "softmax_plus"))
    same(there, powers / powers.sum(-1, keepdims=True), 1e-6)


def entropies(length: int, normalization: str) -> float:
    """Mean entropy of the weights of random queries and keys of norm sqrt(64), uniform directions."""
    generator = np.random.default_rng(length)
    draws = max(1, 512 // length)
    query, key = (generator.normal(size=(draws, 1, n, 64)) for n in (64, length))
    query, key = (x / np.linalg.norm(x, axis=-1, keepdims=True) * 8 for x in (query, key))
    scores = (query @ key.swapaxes(-1, -2) / 8).astype("float32")
    weights = numpy(attention_weights(ops.convert_to_tensor(scores), None, normalization)).astype("float64")
    return float(-(weights * np.log(weights + 1e-30)).sum(-1).mean())


def test_the_growth_of_entropy_is_damped_as_observed():
    lengths = (64, 512, 4096)
    plain, scaled = ([entropies(n, name) for n in lengths] for name in ("softmax", "softmax_plus"))
    same(plain, [3.68, 5.75, 7.83], 0.03)
    same(scaled, [3.94, 5.75, 7.47], 0.03)
    assert scaled[2] - scaled[0] < 0.9 * (plain[2] - plain[0])
    assert scaled[2] - scaled[0] > 1.0  # damped, not removed


# --- sharing ----------------------------------------------------------------------------------------------------------

LAYERS = 2


@pytest.fixture(scope="module")
def shared_and_unshared(tmp_path_factory):
    """ALBERT with one block, and the same checkpoint loaded into separate blocks."""
    folder = tmp_path_factory.mktemp("albert") / "model"
    model = random_models.build(MaskedLM, "albert", num_hidden_layers=LAYERS, embedding_size=7)
    model.save_pretrained(folder, format="tensorflow")
    return model, MaskedLM.from_pretrained(folder, share_blocks=False)


@pytest.fixture(scope="module")
def both_gradients(shared_and_unshared):
    """Of the same loss, by path."""
    weight = np.random.default_rng(0).normal(size=(ROWS, LENGTH, 29)).astype("float32")
    inputs = {"token_ids": tokens(), "segment_ids": 0 * tokens(), "padding_mask": 0 * tokens() + 1}
    return tuple(random_models.gradients_of(model, inputs, weight) for model in shared_and_unshared)


def block_part(path: str) -> tuple[str, str]:
    """A variable's block ("block_2", or "" outside of the blocks) and its name within it."""
    block, _, rest = path.partition("/")
    return (block, rest) if block.startswith("block_") else ("", path)


def test_our_own_files_unshare_as_the_originals_do(shared_and_unshared, tmp_path):
    shared, unshared = shared_and_unshared
    shared.save_pretrained(tmp_path / "ours")
    again = MaskedLM.from_pretrained(tmp_path / "ours", share_blocks=False).weight_arrays()
    for path, array in unshared.weight_arrays().items():
        np.testing.assert_array_equal(again[path], array)


def test_unshared_albert_begins_as_albert(shared_and_unshared):
    shared, unshared = shared_and_unshared
    blocks = [sorted({block_part(path)[0] for path in model.named_variables()} - {""}) for model in (shared, unshared)]
    assert blocks == [["block_0"], [f"block_{index}" for index in range(LAYERS)]]
    same(outputs(unshared, tokens()), outputs(shared, tokens()), 1e-6)


def test_the_gradient_of_the_shared_block_is_the_sum_of_the_unshared_ones(both_gradients):
    whole, parts = both_gradients
    for path, gradient in whole.items():
        block, name = block_part(path)
        terms = [parts[f"block_{index}/{name}"] for index in range(LAYERS)] if block else [parts[path]]
        same(sum(terms), gradient, 1e-4 * max(1.0, np.abs(gradient).max()))


def test_one_step_makes_the_blocks_of_unshared_albert_differ(shared_and_unshared, both_gradients):
    before, gradients = shared_and_unshared[1].weight_arrays(), both_gradients[1]
    for path in [path for path in before if path.startswith("block_0/") and not path.endswith("key/bias")]:
        first, second = path, path.replace("block_0", "block_1")
        np.testing.assert_array_equal(before[first], before[second])
        stepped = [before[name] - 0.1 * gradients[name] for name in (first, second)]
        assert distance(*stepped) > 1e-4, path  # the bias of the keys moves nothing: softmax does not see it
