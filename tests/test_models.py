"""Models: names of sites, activations that equal the model's own, and nnsight's traps disarmed."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput, SiteError, Unavailable

FAMILIES = ("llama", "gpt2", "neox")


def hidden_states(model, ids):
    with torch.no_grad():
        return model.module(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tiny_folders):
    return sl.load_model(tiny_folders[request.param])


def test_short_names_mean_the_same_in_every_family(model):
    table = model.sites.set_index("alias")
    for alias, kind in {
        "layers.0": "block",
        "layers.3": "block",
        "layers.1.mlp": "mlp",
        "layers.1.attn": "attention",
    }.items():
        assert table.loc[alias, "kind"] == kind
        assert table.loc[alias, "width"] == 32
    assert {"embed", "norm", "unembed"} <= set(table.index)
    assert "layers.4" not in table.index


def test_a_module_path_is_a_site_too(model):
    path = model.site("layers.2").path
    assert model.site(path).alias == "layers.2"
    inner = model.sites.query("kind == 'Linear' or kind == 'Conv1D'")["path"].iloc[0]
    rows = model.activations([[1, 2, 3]], [inner + ".input"])[inner + ".input"]
    assert rows[0].shape == (3, model.site(inner + ".input").width)


def test_activations_equal_plain_hidden_states(model):
    batch = [[5, 6, 7, 8, 9, 10], [11, 12], [13, 14, 15]]
    found = model.activations(batch, ["layers.1", "layers.2.input", "layers.0"])
    for row, ids in enumerate(batch):
        states = hidden_states(model, ids)
        for name, expected in {
            "layers.1": states[2][0],
            "layers.2.input": states[2][0],
            "layers.0": states[1][0],
        }.items():
            assert found[name][row].shape == expected.shape
            error = (found[name][row] - expected).norm() / expected.norm()
            assert error < 1e-5, (name, row, float(error))


def test_one_site_may_be_given_by_its_name_alone(model):
    alone, listed = (model.activations([[1, 2, 3]], sites) for sites in ("layers.1", ["layers.1"]))
    assert alone.keys() == listed.keys() == {"layers.1"}
    assert torch.equal(alone["layers.1"][0], listed["layers.1"][0])
    for of_one, of_list in zip(
        *(model.gradients([[1, 2, 3]], sites) for sites in ("layers.1", ["layers.1"])), strict=True
    ):
        assert torch.equal(of_one["layers.1"][0], of_list["layers.1"][0])


def test_attention_and_mlp_are_read_whatever_they_return(model):
    found = model.activations([[3, 4, 5]], ["layers.1.attn", "layers.1.mlp", "layers.1.mlp.input"])
    assert {value[0].shape for value in found.values()} == {(3, 32)}
    assert not torch.equal(found["layers.1.attn"][0], found["layers.1.mlp"][0])


def test_reading_stops_after_the_deepest_site(tiny_folders):
    model = sl.load_model(tiny_folders["llama"])
    calls = []
    for path in (model.site("layers.2").path, model.site("layers.3").path, model.site("unembed").path):
        model.module.get_submodule(path).register_forward_pre_hook(lambda module, args, path=path: calls.append(path))
    model.activations([[1, 2, 3]], ["layers.2", "layers.0"])
    assert calls == [model.site("layers.2").path]


def test_a_wrong_site_lists_the_nearest(tiny_model):
    with pytest.raises(SiteError, match=r"no site 'layer\.1\.mlp'.*layers\.1\.mlp"):
        tiny_model.site("layer.1.mlp")
    with pytest.raises(SiteError, match="layers"):
        tiny_model.activations([[1, 2]], ["layers.9"])


def test_bad_batches_are_refused(tiny_model):
    with pytest.raises(BadInput, match="empty"):
        tiny_model.activations([[1], []], ["layers.0"])
    with pytest.raises(BadInput, match="another tokenizer"):
        tiny_model.activations([[10_000]], ["layers.0"])


def test_splicing_nothing_changes_nothing_and_splicing_zero_does(model):
    batch = [[5, 6, 7, 8], [9, 10]]
    clean = model.spliced_logits(batch)
    same = model.spliced_logits(batch, "layers.1", lambda x, positions: x)
    zero = model.spliced_logits(batch, "layers.1", lambda x, positions: x * 0)
    for a, b, c in zip(clean, same, zero, strict=True):
        torch.testing.assert_close(a, b)
        assert (a - c).abs().max() > 1e-3


def test_a_splice_sees_every_real_token_with_its_position(model):
    seen = []

    def splice(x, positions):
        seen.append((x.shape, positions.tolist()))
        return x

    for site in ("layers.1", "layers.1.attn", "layers.2.input"):
        model.spliced_logits([[5, 6, 7], [8]], site, splice)
    assert seen == [((4, 32), [0, 1, 2, 0])] * 3


def test_splicing_the_input_of_a_block_equals_the_output_of_the_one_before(model):
    batch = [[5, 6, 7]]
    by_output = model.spliced_logits(batch, "layers.1", lambda x, positions: x + 1)
    by_input = model.spliced_logits(batch, "layers.2.input", lambda x, positions: x + 1)
    torch.testing.assert_close(by_output[0], by_input[0])


def test_logits_equal_the_model_s_own(model):
    ids = [5, 6, 7]
    with torch.no_grad():
        expected = model.module(input_ids=torch.tensor([ids])).logits[0]
    torch.testing.assert_close(model.logits(ids), expected)


def test_unembed_is_the_logit_change_of_a_direction_up_to_the_norm(tiny_model):
    directions = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    gain = tiny_model.module.model.norm.weight
    expected = directions * gain @ tiny_model.module.lm_head.weight.T
    torch.testing.assert_close(tiny_model.unembed(directions), expected.detach())
    with pytest.raises(BadInput, match="residual stream"):
        tiny_model.unembed(torch.ones(2, 31))


def test_tokens_read_as_text(tiny_model):
    ids = tiny_model.tokenize("the cat sat")
    assert "".join(tiny_model.token_strings(ids)) == "the cat sat"
    assert tiny_model.tokenize(["the cat", "dog"], max_length=1) == [
        [i[0]] for i in tiny_model.tokenize(["the cat", "dog"])
    ]


def test_stray_bytes_of_a_character_are_made_visible(tiny_model):
    strings = tiny_model.token_strings(tiny_model.tokenize("é"))
    assert strings == ["\\xc3", "\\xa9"]


def test_generate_continues_and_needs_a_template_to_chat(tiny_model):
    text = tiny_model.generate("the cat", max_new_tokens=4, min_new_tokens=4)
    assert isinstance(text, str)
    assert text == tiny_model.generate("the cat", max_new_tokens=4, min_new_tokens=4)
    with pytest.raises(BadInput, match="chat template"):
        tiny_model.generate("hi", chat=True)


def test_trace_hands_out_nnsight_s_tracer(tiny_model):
    import nnsight

    layer = tiny_model.nnsight.get(tiny_model.site("layers.1").path)
    with torch.no_grad(), tiny_model.trace("the cat") as tracer:
        hidden = nnsight.save(layer.output)
        tracer.stop()
    expected = hidden_states(tiny_model, tiny_model.tokenize("the cat"))[2]
    torch.testing.assert_close(hidden, expected)


def test_any_torch_module_has_sites_and_traces():
    import nnsight

    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    model = sl.load_model(module)
    assert model.sites.set_index("path").loc["0", "width"] == 5
    assert model.site("2.input").width == 5
    x = torch.randn(4, 3)
    first = model.nnsight.get("0")
    with model.trace(x):
        out = nnsight.save(first.output)
    torch.testing.assert_close(out, module[0](x))
    with pytest.raises(BadInput, match="tokenizer"):
        model.tokenize("the cat")


def test_a_transformers_model_in_memory_finds_its_tokenizer(tiny_folders):
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_pretrained(tiny_folders["gpt2"])
    model = sl.load_model(module)
    assert model.name == "tiny-gpt2"
    assert model.tokenize("the cat")


def test_two_threads_on_one_model_do_not_meet(tiny_folders):
    model = sl.load_model(tiny_folders["llama"])
    other = sl.load_model(model.module, tokenizer=model.tokenizer)  # a second wrapper round the same module
    expected = model.activations([[5, 6, 7]], ["layers.2"])["layers.2"][0]
    failures = []

    def read(which):
        try:
            for _ in range(10):
                torch.testing.assert_close(which.activations([[5, 6, 7]], ["layers.2"])["layers.2"][0], expected)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(which,)) for which in (model, other, model, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


TRACED = """
import nnsight, torch
def read(model, layer):
    with torch.no_grad(), model.trace("the cat") as tracer:
        value = nnsight.save({expression})
        tracer.stop()
    return value
"""


def test_an_edited_and_reloaded_file_traces_its_new_body(tiny_model, tmp_path, monkeypatch):
    import os

    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "traced_module.py"
    layer = tiny_model.nnsight.get(tiny_model.site("layers.0").path)
    file.write_text(TRACED.format(expression="layer.output"))
    module = importlib.import_module("traced_module")
    before = module.read(tiny_model, layer)
    file.write_text(TRACED.format(expression="layer.output * 2"))
    os.utime(file, (1, 1))
    module = importlib.reload(module)
    torch.testing.assert_close(module.read(tiny_model, layer), before * 2)


def test_an_edited_file_that_is_not_reloaded_goes_on_with_its_old_body(tiny_model, tmp_path, monkeypatch):
    import os

    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "edited_module.py"
    layer = tiny_model.nnsight.get(tiny_model.site("layers.0").path)
    file.write_text(TRACED.format(expression="layer.output"))
    module = importlib.import_module("edited_module")
    before = module.read(tiny_model, layer)
    file.write_text("# a line that moves all others\n" * 3 + TRACED.format(expression="layer.output * 2"))
    os.utime(file, (1, 1))
    torch.testing.assert_close(module.read(tiny_model, layer), before)


def test_an_upgrade_under_a_running_program_does_not_reach_its_traces(tiny_folders, tmp_path):
    shutil.copytree(Path(sl.__file__).parent, tmp_path / "sae_lab", ignore=shutil.ignore_patterns("demo", "static"))
    code = (
        "import sae_lab.models as room, pathlib\n"
        f"model = room.load_model({str(tiny_folders['llama'])!r})\n"
        "path = pathlib.Path(room.__file__).with_name('_model.py')\n"
        "path.write_text('# moved' + chr(10) * 30 + path.read_text())\n"
        "print(model.activations([[1, 2, 3]], ['layers.1'])['layers.1'][0].shape)\n"
        "print(model.spliced_logits([[1, 2, 3]], 'layers.1', lambda x, positions: x)[0].shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "torch.Size([3, 32])"


def run_cells(cells, tiny_folders):
    import nbclient
    import nbformat

    setup = (
        "import nnsight, torch, sae_lab as sl\n"
        f"model = sl.load_model({str(tiny_folders['llama'])!r})\n"
        "layer = model.nnsight.get('model.layers.1')"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in [setup, *cells]])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    return notebook


def test_a_trace_works_in_a_timed_cell(tiny_folders):
    trace = (
        "with torch.no_grad(), model.trace('the cat') as tracer:\n"
        "    value = nnsight.save(layer.output{})\n"
        "    tracer.stop()"
    )
    notebook = run_cells(
        ["%%time\n" + trace.format(""), "%%time\n" + trace.format("[0, 0]"), "print(tuple(value.shape))"], tiny_folders
    )
    assert notebook.cells[-1].outputs[0].text == "(32,)\n"


@pytest.mark.parametrize("nnsight_first", [False, True])
def test_anyio_s_lazy_classes_survive_nnsight(nnsight_first):
    code = ("import nnsight\n" if nnsight_first else "") + (
        "import sae_lab.models\nimport anyio.streams.tls\nfrom anyio.abc import SocketAttribute\nimport httpx\n"
        "httpx.AsyncClient()\nimport nnsight\nassert hasattr(object(), 'save')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr


def test_bad_names_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"config\.json"):
        sl.load_model(tmp_path)
    with pytest.raises(BadInput, match="no folder"):
        sl.load_model("./nowhere")
    with pytest.raises(BadInput, match="not a int"):
        sl.load_model(3)
    with pytest.raises(BadInput, match="device"):
        sl.load_model(tmp_path, device="abacus")


def test_no_network_is_said_with_the_remedy(monkeypatch):
    import transformers

    def refuse(*args, **kwargs):
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    with pytest.raises(Unavailable, match=r"load_model\('demo'\)"):
        sl.load_model("someone/some-model")
