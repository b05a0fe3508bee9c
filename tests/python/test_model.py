"""Models as objects: logits, caches, devices, the kinds of arrays they take and give."""

import io
import logging

import numpy as np
import phi3
import pytest
from phi3 import AutoConfig, AutoModelForCausalLM, Cache

IDS = [5, 6, 7, 8, 9]
GREEDY = {"do_sample": False, "max_new_tokens": 4, "eos_token_id": None}


@pytest.fixture(scope="module")
def model(checkpoint):
    return AutoModelForCausalLM.from_pretrained(checkpoint("phi3.5-mini"), compute_dtype="float32")


def test_what_auto_has_come_to(model, checkpoint):
    """Small models are exact; keys and values: 2 heads of 96, 3 layers, two of each."""
    core = model.core
    assert (core.compute_dtype, core.kv_cache_dtype) == ("float32", "float32")
    assert core.kv_token_bytes == 2 * 3 * 2 * 96 * 4
    path = checkpoint("phi3.5-mini")
    mixed = AutoModelForCausalLM.from_pretrained(path, compute_dtype="mixed").core
    assert (mixed.compute_dtype, mixed.kv_cache_dtype) == ("mixed", "float16")
    assert mixed.kv_token_bytes == core.kv_token_bytes // 2
    assert mixed.config["embedding_bytes"] == 512 * 192 * 4


# ---- Logits -----------------------------------------------------------------------------------


def test_logits_without_numpy(model):
    logits = model([IDS]).logits
    array = np.asarray(logits)
    assert logits.shape == array.shape == (1, 5, 512) and logits.ndim == 3 and len(logits) == 1
    assert logits.tolist() == array.tolist()
    assert logits[0, -1].tolist() == array[0, -1].tolist()
    assert logits[0][2][3] == array[0, 2, 3] == memoryview(logits)[0, 2, 3]
    assert [row.tolist() for row in logits[0]] == array[0].tolist()
    assert repr(logits) == "Logits(shape=(1, 5, 512))"


@pytest.mark.parametrize(
    "index",
    [
        0,
        (0, 1),
        (slice(None), -1),
        (slice(None), slice(1, 4, 2)),
        (0, slice(None, None, -1), slice(5, 2, -1)),
        (slice(None), slice(None), 7),
        (slice(3, 3),),
    ],
    ids=str,
)
def test_logits_are_indexed_as_by_numpy(model, index):
    logits = model([IDS]).logits
    array = np.asarray(logits)[index]
    view = logits[index]
    assert view.shape == array.shape and view.tolist() == array.tolist()
    assert np.array_equal(np.asarray(view), array)


def test_views_share_and_keep_the_memory(model):
    view = model([IDS]).logits[0, 1]  # the whole is gone, its memory is not
    np.asarray(view)[3] = 42
    assert view[3] == 42


@pytest.mark.parametrize("index", [1, (0, 5), (0, 0, 0, 0), (0, -6), 1.5, "a", None], ids=str)
def test_indices_that_are_none(model, index):
    with pytest.raises((IndexError, TypeError)):
        model([IDS]).logits[index]


def test_buffers_of_views_that_are_not_contiguous(model):
    view = model([IDS]).logits[:, ::2]
    with pytest.raises(BufferError, match="contiguous"):
        io.BytesIO().write(view)
    assert memoryview(view).strides == np.asarray(view).strides
    assert memoryview(view).tobytes() == np.asarray(view).tobytes()


def test_rows_of_different_lengths(model):
    """Padding on the left is not computed; its logits are zero."""
    alone = np.asarray(model([[7, 8]]).logits)[0]
    both = np.asarray(
        model([IDS, [0, 0, 0, 7, 8]], attention_mask=[[1] * 5, [0] * 3 + [1] * 2]).logits
    )
    assert both.shape == (2, 5, 512) and not both[1, :3].any()
    assert np.allclose(both[1, 3:], alone, atol=1e-4)
    assert np.allclose(both[0], np.asarray(model([IDS]).logits)[0], atol=1e-4)


def test_padding_on_the_right_changes_nothing_before_it(model):
    mask = [[1] * 5 + [0] * 2]
    padded = np.asarray(model([[*IDS, 0, 0]], attention_mask=mask).logits)
    assert padded.shape == (1, 7, 512)
    assert np.allclose(padded[0, :5], np.asarray(model([IDS]).logits)[0], atol=1e-4)


def test_fewer_logits(model):
    whole = np.asarray(model([IDS]).logits)
    last = np.asarray(model([IDS], logits_to_keep=2).logits)
    assert np.allclose(last, whole[:, -2:], atol=1e-4)
    with pytest.raises(ValueError):
        model([IDS], logits_to_keep=-1)


def test_arrays_come_back_as_they_came(model):
    torch = pytest.importorskip("torch")
    expected = model.generate([IDS], **GREEDY)
    assert type(expected[0][0]) is int and expected.shape == (1, 9)
    assert model.generate(IDS, **GREEDY) == expected
    assert model.generate(tuple(IDS), **GREEDY) == expected
    for array in (np.array([IDS]), np.array([IDS], np.int32)):
        found = model.generate(array, **GREEDY)
        assert isinstance(found, np.ndarray) and found.dtype == np.int64
        assert found.tolist() == expected
        assert isinstance(model(array).logits, np.ndarray)
    found = model.generate(torch.tensor([IDS]), **GREEDY)
    assert found.dtype == torch.int64 and found.tolist() == expected
    logits = model(torch.tensor([IDS])).logits
    assert isinstance(logits, torch.Tensor) and logits.shape == (1, 5, 512)


def test_results_with_names(model):
    output = model.generate(
        [IDS], return_dict_in_generate=True, output_scores=True, output_logits=True, **GREEDY
    )
    assert list(output) == ["sequences", "scores", "logits", "past_key_values"]
    assert output.sequences == output["sequences"] == output[0] == model.generate([IDS], **GREEDY)
    assert len(output.scores) == len(output.logits) == 4
    assert output.scores[0].shape == (1, 512)
    assert np.allclose(output.logits[0], np.asarray(model([IDS]).logits)[0, -1], atol=1e-4)
    plain = model.generate([IDS], return_dict_in_generate=True, **GREEDY)
    assert plain.scores is None and "scores" not in plain
    with pytest.raises(AttributeError):
        plain.attentions  # noqa: B018


def test_a_penalty_is_seen_in_the_scores(model):
    output = model.generate(
        [IDS],
        repetition_penalty=2.0,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        **GREEDY,
    )
    raw, score = np.asarray(output.logits[0])[0], np.asarray(output.scores[0])[0]
    for token in range(512):
        value = raw[token]
        if token in IDS:
            value = value / 2 if value > 0 else value * 2
        assert score[token] == pytest.approx(value, abs=1e-6)


def test_nothing_starts_from_bos(model):
    assert model.generate(**GREEDY) == model.generate([[1]], **GREEDY)
    assert model.generate(None, bos_token_id=3, **GREEDY)[0][0] == 3
    with pytest.raises(ValueError, match="bos_token_id"):
        model.generate(bos_token_id=None, **GREEDY)
    with pytest.raises(ValueError, match="one of them"):
        model.generate([IDS], input_ids=[IDS])


def test_padding_is_known_by_its_id(model):
    """Without a mask, pad ids count as padding, unless they may also end a text."""
    settings = {**GREEDY, "eos_token_id": 501}
    alone = model.generate([[7, 8]], **settings)[0][2:]
    (row,) = model.generate([[400, 400, 7, 8]], pad_token_id=400, **settings)
    assert row[:4] == [400, 400, 7, 8] and row[4:] == alone
    seen = model.generate(
        [[400, 400, 7, 8]],
        pad_token_id=400,
        do_sample=False,
        max_new_tokens=4,
        eos_token_id=[501, 400],
    )[0][4:]
    assert seen != alone


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mask", [[0, 0, 1, 1, 1, 1], [1, 0, 1, 0, 1, 1], [0, 1, 1, 0, 0, 1]])
def test_hidden_ids_are_hidden_as_by_transformers(model, checkpoint, mask):
    import torch
    import transformers

    theirs = transformers.AutoModelForCausalLM.from_pretrained(checkpoint("phi3.5-mini"))
    ids = [[9, 8, 7, 6, 5, 4]]
    expected = theirs.generate(torch.tensor(ids), attention_mask=torch.tensor([mask]), **GREEDY)
    assert model.generate(ids, attention_mask=[mask], **GREEDY) == expected.tolist()


def test_padding_on_the_right_is_warned_of(model, caplog):
    with caplog.at_level(logging.WARNING, "phi3"):
        (row,) = model.generate([[7, 8, 0]], attention_mask=[[1, 1, 0]], **GREEDY)
    assert "padding_side" in caplog.text
    assert row[3:] == model.generate([[7, 8]], **GREEDY)[0][2:]


# ---- Caches -----------------------------------------------------------------------------------


def test_caches_take_a_text_in_parts(model):
    whole = np.asarray(model([IDS]).logits)
    output = model([IDS[:2]], use_cache=True)
    cache = output.past_key_values
    assert isinstance(cache, Cache) and len(cache) == 2 == cache.get_seq_length()
    rest = model([IDS[2:]], past_key_values=cache).logits
    assert cache.ids == IDS and cache.nbytes > 0
    assert np.allclose(np.asarray(rest), whole[:, 2:], atol=1e-4)
    cache.reset()
    assert len(cache) == 0 and cache.ids == []


def test_caches_fork_and_are_cut(model):
    cache = model([IDS], use_cache=True).past_key_values
    copy = cache.fork()
    copy.truncate(2)
    assert copy.ids == IDS[:2] and cache.ids == IDS
    left = np.asarray(model([[11]], past_key_values=copy).logits)
    assert np.allclose(left, np.asarray(model([[*IDS[:2], 11]]).logits)[:, -1:], atol=1e-4)
    copy.truncate(100)
    assert len(copy) == 3
    for length in (-1, "a", 1.5):
        with pytest.raises((TypeError, ValueError)):
            copy.truncate(length)


def test_caches_are_reused_by_generate(model):
    cache = Cache(model.core)
    first = model.generate([IDS], past_key_values=cache, **GREEDY)
    assert first == model.generate([IDS], **GREEDY)
    longer = [*first[0], 3, 4]
    assert cache.ids == longer[: len(cache)]
    again = model.generate([longer], past_key_values=cache, **GREEDY)
    assert again == model.generate([longer], **GREEDY)
    other = model.generate([[9, 8, 7]], past_key_values=cache, **GREEDY)
    assert other == model.generate([[9, 8, 7]], **GREEDY)


def test_batches_take_a_cache_for_each_row(model):
    rows = [IDS, IDS[::-1]]
    caches = [Cache(model.core), Cache(model.core)]
    assert model.generate(rows, past_key_values=caches, **GREEDY) == model.generate(rows, **GREEDY)
    assert [len(cache) > len(IDS) for cache in caches] == [True, True]
    with pytest.raises(TypeError, match="past_key_values"):
        model.generate(rows, past_key_values=caches[:1], **GREEDY)
    with pytest.raises(phi3.Error):
        model.generate(rows, past_key_values=[caches[0]] * 2, **GREEDY)
    with pytest.raises(phi3.Error):
        model(rows, past_key_values=caches[:1])


def test_caches_outlive_what_they_came_from(checkpoint):
    """A cache keeps its model alive, a generation its caches."""
    loaded = AutoModelForCausalLM.from_pretrained(checkpoint("phi4"))
    cache = Cache(loaded.core)
    run = phi3._phi3.Generation(loaded.core, [IDS], caches=[cache], max_new_tokens=3)
    del loaded, cache
    assert len(run.run()[0]) == 3 and run.done and run.finish_reasons == ["length"]
    with pytest.raises(phi3.Error):
        run.step()


# ---- Everything else --------------------------------------------------------------------------


def test_devices(model):
    assert model.device == "cpu" and model.device.type == "cpu"
    assert model.eval() is model and model.to("cpu") is model and model.can_generate()
    torch = pytest.importorskip("torch")
    assert model.to(torch.device("cpu")) is model
    with pytest.raises(phi3.UnsupportedError, match="device_map"):
        model.to("cuda")


@pytest.mark.parametrize("device", ["cpu", "auto", None, {"": "cpu"}, -1], ids=str)
def test_ways_to_say_cpu(checkpoint, device):
    path = checkpoint("phi3.5-mini")
    assert AutoModelForCausalLM.from_pretrained(path, device_map=device).device == "cpu"


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", None])
def test_ways_to_say_dtype(checkpoint, dtype):
    torch = pytest.importorskip("torch")
    path = checkpoint("phi3.5-mini")
    values = [dtype] if dtype in ("auto", None) else [dtype, getattr(torch, dtype)]
    for value in values:
        loaded = AutoModelForCausalLM.from_pretrained(path, dtype=value, torch_dtype=value)
        assert loaded.dtype == "float32"  # what the file holds


def test_configurations(model, checkpoint):
    config = AutoConfig.from_pretrained(checkpoint("phi3.5-mini"))
    for name in (
        "hidden_size",
        "num_hidden_layers",
        "rms_norm_eps",
        "vocab_size",
        "sliding_window",
    ):
        assert getattr(config, name) == getattr(model.config, name), name
    assert model.config.head_dim == 96 and model.config.rope_type == "longrope"
    assert model.num_parameters() == model.config.n_parameters
    assert config.to_dict()["model_type"] == "phi3"


def test_configuration_of_a_gguf_file(smollm2_path):
    config = AutoConfig.from_pretrained(smollm2_path)
    assert config.model_type == "llama" and config.num_hidden_layers == 30


def test_progress_is_told_and_may_stop_the_load(checkpoint):
    path = str(checkpoint("phi3.5-mini"))
    told = []
    phi3._phi3.Model(path, progress=told.append)
    assert told == sorted(told) and told[0] >= 0 and told[-1] == 1

    def stop(done):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        phi3._phi3.Model(path, progress=stop)


def test_the_progress_bar_is_shown_when_asked_for(checkpoint, capsys):
    pytest.importorskip("tqdm")
    AutoModelForCausalLM.from_pretrained(checkpoint("phi3.5-mini"), progress=True)
    assert "Loading model" in capsys.readouterr().err
    AutoModelForCausalLM.from_pretrained(checkpoint("phi3.5-mini"))
    assert capsys.readouterr().err == ""
