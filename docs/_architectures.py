"""The page of architectures, made from the code: what each is, how it encodes and is stepped, where it is from."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import torch
from _gather import write

import sae_lab as sl
from sae_lab.saes import ARCHITECTURES, SAEConfig
from sae_lab.training import kernels

FIRST = ("topk", "batch_topk", "relu")  # the rest in the order of their names
GATES = {"topk": "k largest of a row", "threshold": "thresholds", "pursuit": "pursuit"}


def write_architectures(target: Path) -> None:
    """Write the table and one section an architecture to `target`, as Markdown."""
    order = [*FIRST, *sorted(ARCHITECTURES.keys() - set(FIRST))]
    configs = [smallest(ARCHITECTURES[name]) for name in order]
    columns = ["", "idea", "trained here", "encodes by", "dead latents", "training step"]
    head = f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"
    rows = [line(config) for config in configs]
    sections = [f"## {type(config).__name__}\n\n{rest(config)}" for config in configs]
    write(target, "\n".join([head, *rows]) + "\n\n" + "\n\n".join(sections) + "\n")


def smallest(cls: type[SAEConfig]) -> SAEConfig:
    """A config with nothing chosen but the sizes."""
    takes_k = "k" in inspect.signature(cls).parameters
    return cls(d_sae=64, **({"k": 4} if takes_k else {}))


def line(config: SAEConfig) -> str:
    """One row of the table."""
    name = type(config).__name__
    assert getattr(sl, name) is type(config), f"{name} is not public"
    kernel = kernels.choose(config, torch.device("cpu"))
    step = "autograd on the definition" if kernel is kernels.ReferenceKernel else first_line(kernel.__doc__)
    anchor = f"[{name}](#{name.lower()})"
    cells = [anchor, idea(config), "yes", GATES[config.gate], config.dead, step.rstrip(".").replace("|", r"\|")]
    return f"| {' | '.join(cells)} |"


def idea(config: SAEConfig) -> str:
    """What stands after the name in the first line of the file."""
    return first_line(module_text(config)).partition(": ")[2].rstrip(".").replace("|", r"\|")


def rest(config: SAEConfig) -> str:
    """The file's docstring without its first line: Markdown as it is, since equations are indented."""
    return module_text(config).partition("\n")[2].strip("\n")


def module_text(config: SAEConfig) -> str:
    """The docstring of the file that an architecture lives in."""
    return inspect.cleandoc(sys.modules[type(config).__module__].__doc__ or "")


def first_line(text: str | None) -> str:
    """The first line of a docstring."""
    return inspect.cleandoc(text or "").partition("\n")[0]
