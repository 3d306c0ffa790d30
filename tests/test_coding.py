"""Encoding and decoding in blocks: the same as the formulas, whatever the rows are given as."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

import sae_lab as sl
from sae_lab.saes import _active, _coding

D_IN, ROWS = 24, 43  # rows: no multiple of a block


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(_coding, "BLOCK", 8)
    monkeypatch.setattr(_coding, "ENTRIES", 0)
    monkeypatch.setattr(_coding, "CHUNK", 200)


def sae(gate: str, d_sae: int = 96) -> sl.SAE:
    generator = torch.Generator().manual_seed(0)
    W_enc, W_dec = torch.randn(2, d_sae, D_IN, generator=generator)
    b_enc, b_dec = 0.3 * torch.randn(d_sae, generator=generator), torch.randn(D_IN, generator=generator)
    limits = torch.linspace(-1.0, 9.0, d_sae)  # below 0 for some latents, whose activations are positive nonetheless
    return sl.SAE(W_enc, W_dec, b_enc, b_dec, gate=gate, k=5, threshold=limits)


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (ROWS,)), D_IN, generator=torch.Generator().manual_seed(1))


def by_formula(s: sl.SAE, x: torch.Tensor) -> torch.Tensor:
    pre = (x - s.b_dec) @ s.W_enc.T + s.b_enc
    if s.gate == "topk":
        values, indices = pre.topk(5, dim=-1)
        return torch.zeros_like(pre).scatter(-1, indices, values.relu())
    return pre.relu() * (pre > s.threshold)


@pytest.mark.parametrize("d_sae", [96, 51], ids=["whole groups", "odd"])
@pytest.mark.parametrize("gate", ["topk", "threshold"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 11), (2, 0), (0,)], ids=str)
def test_blocks_give_what_the_formulas_say(gate, d_sae, shape):
    s, x = sae(gate, d_sae), rows(*shape)
    expected = by_formula(s, x)
    assert not expected.numel() or 0 < (expected > 0).float().mean() < 0.6
    z = s.encode(x)
    torch.testing.assert_close(z, expected)
    assert not torch.signbit(z).any(), "zeros are printed as such, not as -0"
    values, indices = s.encode_sparse(x)
    assert values.shape == indices.shape
    assert values.shape[:-1] == x.shape[:-1]
    torch.testing.assert_close(torch.zeros_like(z).scatter_add(-1, indices, values), expected)
    assert not indices[values == 0].any()
    for made in (s(x), s.decode(z), s.decode_sparse(values, indices)):
        torch.testing.assert_close(made, expected @ s.W_dec + s.b_dec, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gate", ["topk", "threshold"])
def test_rows_may_lie_in_memory_as_they_like_and_have_other_types(gate):
    s, x = sae(gate), rows()
    torch.testing.assert_close(s.encode(x.T.contiguous().T), s.encode(x))
    torch.testing.assert_close(s(x.repeat(1, 2)[:, :D_IN]), s(x))
    torch.testing.assert_close(s.encode_sparse(x[::2]).values, s.encode_sparse(x[::2].clone()).values)
    for dtype in (torch.float64, torch.bfloat16):
        other = copy.deepcopy(s).to(dtype)
        assert {part.dtype for part in (other.encode(x), other(x), other.encode_sparse(x).values)} == {dtype}
        if dtype == torch.float64:  # half as many digits change which latents are the largest
            torch.testing.assert_close(other(x).float(), s(x), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("gate", ["topk", "threshold"])
def test_gradients_flow_to_whoever_asks(gate):
    s, x = sae(gate), rows()
    reached = []
    for run in (s.encode, lambda x: s.encode_sparse(x).values, s, lambda x: s.decode(s.encode(x))):
        leaf = x.clone().requires_grad_(True)
        run(leaf).square().sum().backward()
        reached.append(leaf.grad)
    leaf = x.clone().requires_grad_(True)
    by_formula(s, leaf).square().sum().backward()
    torch.testing.assert_close(reached[0], leaf.grad)
    torch.testing.assert_close(reached[1], leaf.grad)
    torch.testing.assert_close(reached[2], reached[3], atol=1e-3, rtol=1e-3)
    s.requires_grad_(True)
    s(x).square().sum().backward()
    assert all(bool(part.grad.any()) for part in (s.W_enc, s.W_dec, s.b_enc, s.b_dec))
    with torch.no_grad():
        assert not s(x).requires_grad


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # what torch does for jvp
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # and for vmap
@pytest.mark.parametrize("gate", ["topk", "threshold"])
def test_transforms_of_torch_func_see_formulas(gate):
    s, x = sae(gate), rows()
    torch.testing.assert_close(torch.func.vmap(s.encode)(x), s.encode(x))
    torch.testing.assert_close(torch.func.vmap(s.decode)(s.encode(x)), s.decode(s.encode(x)))
    slope = torch.func.jvp(s.encode, (x,), (x,))[1]
    torch.testing.assert_close(slope, (s.encode(x) > 0) * (x @ s.W_enc.T))
    assert torch.func.grad(lambda x: s(x).sum())(x).any()
    for name, part in s.named_parameters():
        many = torch.stack([part.detach(), 1.1 * part.detach()])

        def made(value, name=name):
            return torch.func.functional_call(s, {name: value}, (x,))

        torch.testing.assert_close(torch.func.vmap(made)(many), torch.stack([made(value) for value in many]))


def test_codes_with_few_entries_are_decoded_from_a_list_whatever_their_sign(monkeypatch):
    s = sae("threshold")
    z = torch.zeros(ROWS, 96)
    z[::3, 7], z[5, 90], z[42, 0] = 2.0, -1.5, 1e-30
    listed = []
    plain = _coding.places
    monkeypatch.setattr(_coding, "places", lambda marked: listed.append(len(marked)) or plain(marked))
    torch.testing.assert_close(s.decode(z), z @ s.W_dec + s.b_dec)
    assert sum(listed) == ROWS
    dense = torch.ones(ROWS, 96)
    torch.testing.assert_close(s.decode(dense), dense @ s.W_dec + s.b_dec)
    assert sum(listed) == ROWS, "a product is faster then"
    before = z.clone()
    s.decode(z)
    assert torch.equal(z, before)


@pytest.mark.parametrize(("limit", "dense"), [(0.0, True), (16.0, False)])
def test_reconstructing_decodes_each_block_in_the_faster_way(limit, dense, monkeypatch):
    s, x, ways = sae("threshold"), rows(), []
    s.threshold.fill_(limit)
    plain = _coding._listed
    monkeypatch.setattr(_coding, "_listed", lambda *args: ways.append("list") or plain(*args))
    z = by_formula(s, x)
    assert z.any()
    torch.testing.assert_close(s(x), z @ s.W_dec + s.b_dec, atol=1e-4, rtol=1e-4)
    assert bool(ways) != dense


def test_a_row_with_nan_is_seen():
    x = rows()
    x[3, 2] = torch.nan
    for gate in ("topk", "threshold"):
        z = sae(gate).encode(x)
        assert z[3].isnan().any()
        assert not z[:3].isnan().any()
    for limit in (0.0, 16.0):  # codes that are decoded by a product, and from a list
        s = sae("threshold")
        s.threshold.fill_(limit)
        assert s(x).isnan().all(dim=1).nonzero().tolist() == [[3]]
        assert s(x).isnan().any(dim=1).nonzero().tolist() == [[3]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_marks_are_counted_and_listed(dtype):
    x = torch.randn(600, 16, generator=torch.Generator().manual_seed(0)).add_(1.5).to(dtype)
    limit = torch.linspace(-3.0, 3.0, 16).to(dtype)
    marked = _active.marks(x, limit)
    assert torch.equal(marked, x > limit)
    assert int(marked[:, 0].sum()) > 255, "so many that a byte would run over"
    assert torch.equal(_active.column_counts(marked), marked.sum(dim=0))
    assert torch.equal(_active.column_counts(marked[:, :13]), marked[:, :13].sum(dim=0))
    found = _active.places(marked)
    assert torch.equal(found, marked.view(-1).nonzero().squeeze(1))
    row, column, offsets = _active.rows_and_columns(found, 600, 16)
    assert torch.equal(torch.stack([row, column], dim=1), marked.nonzero())
    assert torch.equal(offsets, functional.pad(marked.sum(dim=1).cumsum(0), (1, 0))[:-1])
    assert torch.equal(_active.marks(x.relu()), x > 0)
    kept = _active.keep_above_(x.relu(), limit)
    assert torch.equal(kept, torch.where(x > limit, x.relu(), 0.0))
