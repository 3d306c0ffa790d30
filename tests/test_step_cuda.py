"""The CUDA step without a GPU: in Triton's interpreter against the reference, and compiled for a GPU but not run."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sae_lab as sl
from sae_lab.training import kernels
from sae_lab.training._dead import REFRESH, DeadLatents
from sae_lab.training.kernels import ReferenceKernel, SparseKernel, cuda

HERE = Path(__file__).parent
BENCHMARKS = HERE.parent / "benchmarks"
TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not TRITON, reason="Triton comes for Linux on x86-64 alone")


def in_a_process(script: str, *arguments: str, **environment: str) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def interpreted() -> dict:
    """Everything at once: starting the interpreter takes longer than the steps."""
    if not TRITON:
        pytest.skip("Triton comes for Linux on x86-64 alone")
    return in_a_process("_interpreted.py")


CASES = [
    "topk",
    "topk, many dead, clipped",
    "batch_topk",
    "batch_topk, few dead, clipped, a smaller batch",
    "transcoder",
]


@pytest.mark.parametrize("case", CASES)
def test_adam_steps_equal_dense_autograd(interpreted, case):
    found = interpreted["cases"][case]
    assert max(found["parameters"].values()) < 1e-6
    assert min(found["moved"].values()) > 1e-3, "a parameter was not trained, so the comparison says nothing"
    assert found["figures"] < 2e-6
    assert (found["aux"] > 1e-3) == ("dead" in case or case == "transcoder")
    assert found["hot"] > 0, "no latent was active so often that its sums are made elsewhere"
    assert found["norms"] < 1e-6


@pytest.mark.parametrize("case", ["topk, nothing active", "batch_topk, nothing active"])
def test_a_step_without_any_active_latent_moves_the_decoder_bias_alone(interpreted, case):
    found = interpreted["cases"][case]
    assert found["l0"] == 0
    assert max(found["parameters"].values()) < 1e-6
    assert found["moved"]["b_dec"] > 5e-4
    assert max(found["moved"][name] for name in ("W_enc", "W_dec", "b_enc")) < 1e-6


def test_selection_is_exact_whatever_the_floor_was(interpreted):
    runs = {name: run for name, run in interpreted["selected"].items() if "ties" not in name}
    assert len(runs) == 12
    assert max(run["error"] for run in runs.values()) < 1e-6
    again = {name: run["again"] for name, run in runs.items()}
    # too many candidates are thinned out in the same reading; too few cost another one
    assert [again[f"RowTopK {floor}"] for floor in ("0.0 0.0", "0.3 0.0", "1.2 0.0")] == [0, 0, 0]
    assert [again[f"RowTopK {floor}"] for floor in ("1000.0 0.0", "1.0 -2.0", "1.0 -1000.0")] == [1, 1, 1]
    assert [again[f"BatchTopK {floor}"] for floor in ("1.2 0.0", "0.0 0.0", "1000.0 0.0")] == [0, 1, 1]


def test_equal_values_at_the_cut_are_kept_as_far_as_there_is_room(interpreted):
    # 70 columns of ones; column 7 holds 2; the middle row is negative; two places a row, in BatchTopK one more
    assert interpreted["selected"]["RowTopK ties"] == {"columns": [0, 7], "l0": [2, 0, 2]}
    assert interpreted["selected"]["BatchTopK ties"] == {"columns": list(range(8)), "l0": [8, 0, 1]}


def test_a_kernel_goes_on_from_the_moments_of_another(interpreted):
    assert interpreted["resumed"] == 0


def test_a_recorded_step_is_the_step(interpreted):
    found = interpreted["recorded"]
    assert found["Played"] == found["CudaKernel"]
    assert len(set(found["Played"]["losses"])) == 6
    # each shape is stepped once, recorded without a step, and played from then on; a changed list of the dead is
    # played too; a third shape is one too many
    assert found["events"] == ["step", "record", "play", "step", "record", "play", "play", "step"]


def test_what_triton_changes_is_counted_as_torch_counts_its_own_changes(interpreted):
    assert interpreted["recorded"]["counted"] == [True, True]  # by which a run sees that a step was left half-done


def test_a_step_that_cannot_be_recorded_is_taken_launch_by_launch(interpreted):
    found = interpreted["recorded"]["unrecorded"]
    assert found["events"] == ["step", "record", "step"]
    assert found["steps"] == 2
    (told,) = found["told"]
    assert "CUDA graph (operation not permitted when stream is capturing): the results are the same" in told


def test_a_device_is_tried_before_it_is_trusted(interpreted):
    assert interpreted["probed"]


def test_low_precision_products_read_a_copy_of_the_encoder(interpreted):
    low = interpreted["low"]
    assert low["kind"] == "torch.bfloat16"
    assert low["away"] < 2**-7  # the interpreter cuts digits off where a GPU rounds
    assert not low["copied_again"], "a step writes the copies itself"
    assert low["followed"]
    ours, expected = low["losses"]
    assert ours == pytest.approx(expected, rel=0.02)
    assert ours != expected


def test_nothing_in_a_step_waits_for_the_device_or_has_a_shape_that_depends_on_values(interpreted):
    asked = set(interpreted["operations"])
    assert {"addmm", "topk", "sort", "scatter_"} <= asked
    waiting = {
        "_local_scalar_dense",
        "scalar_tensor",
        "lift_fresh",
        "nonzero",
        "masked_select",
        "_unique2",
        "bincount",
        "repeat_interleave",
        "is_nonzero",
    }
    assert not asked & waiting


@needs_triton
@pytest.mark.slow
def test_every_launch_compiles_for_a_gpu_and_fits_its_registers(tmp_path):
    made = in_a_process("_compiled.py", TRITON_CACHE_DIR=str(tmp_path))
    assert len(made) == 14
    for name, each in made.items():
        for one in each:
            assert one["registers"] > 8
            assert one["spilled"] == 0, f"{name} keeps {one['spilled']} bytes in memory for want of registers"
            assert one["shared"] <= 48 * 1024


def test_the_cuda_step_is_chosen_on_a_gpu_where_triton_is(monkeypatch):
    gpu, config = torch.device("cuda"), sl.TopK(d_sae=8, k=2)
    if TRITON:
        chosen = kernels.choose(config, gpu)
        assert chosen.__module__.startswith("sae_lab.training.kernels.cuda.")
        assert issubclass(kernels.choose(sl.BatchTopK(d_sae=8, k=2), gpu), chosen)
        assert kernels.choose(sl.TopK(d_sae=8, k=8), gpu) is chosen
        # one program would have to hold more candidates of a row than it has registers for
        assert kernels.choose(sl.TopK(d_sae=10000, k=2048), gpu) is chosen
        assert kernels.choose(sl.TopK(d_sae=10000, k=2049), gpu) is SparseKernel
    assert not cuda.usable(torch.device("cpu"), config)
    assert kernels.choose(sl.ReLU(d_sae=8), gpu) is not ReferenceKernel
    assert not cuda.usable(gpu, sl.ReLU(d_sae=8))
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: None)
    assert kernels.choose(config, gpu) is SparseKernel


@needs_triton
def test_the_plain_step_is_taken_on_a_gpu_on_which_triton_does_not_run(monkeypatch):
    from sae_lab.training.kernels.cuda import _probe

    def probe(device):
        raise RuntimeError("Failed to find C compiler\nand more")

    gpu, config, capability = torch.device("cuda", 3), sl.TopK(d_sae=8, k=2), [(7, 5)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability[0])
    cuda.works.cache_clear()
    assert kernels.choose(config, gpu) is SparseKernel
    cuda.works.cache_clear()
    capability[0] = (9, 0)
    monkeypatch.setattr(_probe, "probe", lambda device: None)
    assert kernels.choose(config, gpu) is not SparseKernel
    cuda.works.cache_clear()
    monkeypatch.setattr(_probe, "probe", probe)
    with pytest.warns(UserWarning, match=r"does not run on cuda:3 \(Failed to find C compiler\): training takes"):
        assert kernels.choose(config, gpu) is SparseKernel
    cuda.works.cache_clear()


def test_dead_latents_on_a_gpu_are_those_of_one_refresh_before():
    device, generator = torch.device("cpu"), torch.Generator().manual_seed(0)
    soon, late = (DeadLatents(12, 40, device, late=late) for late in (False, True))
    before, lists = [], []
    for step in range(1, 10 * REFRESH):
        fired = torch.rand(12, generator=generator) < torch.linspace(0, 0.5, 12)
        for dead in (soon, late):
            dead.saw(fired, 4, step)
        before += [soon.indices.tolist()] if step % REFRESH == 0 else []
        assert late.indices.tolist() == (before[-2] if len(before) > 1 else [])
        lists.append(tuple(late.indices.tolist()))
        if step == 45:  # a run that is resumed here goes on alike, and one that was started on a CPU goes on
            assert set(soon.arrays()) == {"silent", "dead"}
            stored = {name: tensor.clone() for name, tensor in late.arrays().items()}
            late = DeadLatents(12, 40, device, late=True)
            late.restore(stored)
            other = DeadLatents(12, 40, device, late=True)
            other.restore(soon.arrays())
            assert other.indices.tolist() == soon.indices.tolist()
    assert len(set(lists)) > 4, "the lists hardly changed, so the comparison says nothing"
    late.renew()
    late.saw(torch.zeros(12, dtype=torch.bool), 4, REFRESH)
    assert late.indices.tolist() == [], "a list from before a renewal was used after it"


def test_training_on_a_cpu_does_not_load_triton():
    code = "import sys, sae_lab as sl, sae_lab.training.kernels as k; print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_gpu_benchmark_ends_at_once_where_there_is_no_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    command = [sys.executable, str(BENCHMARKS / "gpu_step.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().endswith("PyTorch sees none here: run it on a machine that has one")


def test_the_gpu_benchmark_finds_steps_that_are_wrong(monkeypatch):
    spec = importlib.util.spec_from_file_location("_gpu_checks", BENCHMARKS / "_gpu_checks.py")
    checks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checks)
    size, cpu, config = (24, 6, 32, 3), torch.device("cpu"), sl.TopK(d_sae=32, k=3)

    class Biased(SparseKernel):
        def step(self, batch, *, lr, moment=None, dead=None):
            return super().step(batch, lr=1.1 * lr, moment=moment, dead=dead)

    class Unsteady(SparseKernel):
        def step(self, batch, *, lr, moment=None, dead=None):
            self.weights.b_dec += 1e-7 * torch.rand(())
            return super().step(batch, lr=lr, moment=moment, dead=dead)

    assert len(list(checks.check(cpu, size, size))) == 4
    monkeypatch.setattr(checks.kernels, "choose", lambda config, device: Biased)
    with pytest.raises(checks.Wrong, match="of parameters differ from dense autograd's"):
        checks.against_autograd(config, size, cpu)
    monkeypatch.setattr(checks.kernels, "choose", lambda config, device: Unsteady)
    with pytest.raises(checks.Wrong, match="came out otherwise when the same steps were taken again"):
        checks.same_bits(config, size, cpu)
