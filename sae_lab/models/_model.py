"""`Model`: an nnsight model with named sites, and the few things that the rest of the house asks of one.

Reading activations, replacing them and projecting onto the vocabulary are the only ways in which upper rooms
touch a model. Everything else is left to the user through `trace`, which hands out nnsight's own tracer, and
`nnsight`, the wrapped object itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from sae_lab._errors import BadInput
from sae_lab.models import _passes
from sae_lab.models._nnsight import LockedBackend, module_lock, nnsight, refresh_source
from sae_lab.models._passes import Splice
from sae_lab.models._sites import Site, SiteTable, first_tensor
from sae_lab.models._text import TokenStrings, check_batch, few_logits, pad_right


class Model:
    """A model to look into. Make one with `sae_lab.load_model`.

    Attributes
    ----------
    name : str
        The model's name as artefacts carry it.
    revision : str or None
        Which revision of it, when known.
    nnsight
        The nnsight wrapper, for everything that is not wrapped here.
    module : torch.nn.Module
        The torch module inside.
    tokenizer
        The transformers tokenizer, or None.
    special_ids : frozenset of int
        Ids of the tokenizer's special tokens.
    """

    def __init__(self, module: torch.nn.Module, *, name: str, revision: str | None = None, tokenizer: Any = None):
        self.name = name
        self.revision = revision
        self.module = module.eval()
        self.tokenizer = tokenizer
        self.nnsight = _wrap(module, tokenizer)
        self.special_ids = frozenset(tokenizer.all_special_ids) if tokenizer is not None else frozenset()
        self._strings = TokenStrings(tokenizer) if tokenizer is not None else None
        self._sites = SiteTable(module, self._probe if tokenizer is not None else None)

    # -- what it is ---------------------------------------------------------------------------------------

    @property
    def identity(self) -> str:
        """Name and revision in one string: what activations and SAEs remember of the model they came from."""
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """In what precision the model computes."""
        return next(self.module.parameters()).dtype

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the model takes."""
        return self._require("get_input_embeddings", "takes no tokens").weight.shape[0]

    @property
    def sites(self) -> pd.DataFrame:
        """Every site: its path, short name (alias), kind and width."""
        return self._sites.frame

    def site(self, name: str) -> Site:
        """Find a site by short name or module path, with `.input` or `.output` (the default).

        Raises
        ------
        SiteError
            When there is none; the message lists the nearest names.
        """
        return self._sites.resolve(name)

    def __repr__(self) -> str:
        blocks = sum(kind == "block" for kind in self._sites.frame["kind"])
        parameters = sum(p.numel() for p in self.module.parameters())
        return f"Model({self.name}, {parameters / 1e6:.1f}M parameters, {blocks} layers)"

    # -- text ---------------------------------------------------------------------------------------------

    def tokenize(self, text: str | Sequence[str], *, max_length: int | None = None) -> list[Any]:
        """Turn text into token ids, by the tokenizer's own rule for special tokens.

        Parameters
        ----------
        text
            One text, or several.
        max_length
            Cut each text after so many tokens; None keeps all.

        Returns
        -------
        list of int, or list of lists of int
        """
        self._require_tokenizer()
        options = {"truncation": max_length is not None, "max_length": max_length, "verbose": False}
        return self.tokenizer(text if isinstance(text, str) else list(text), **options)["input_ids"]

    def token_strings(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, spaces kept, stray bytes made visible."""
        self._require_tokenizer()
        assert self._strings is not None
        return self._strings(ids)

    def generate(self, prompt: str, *, max_new_tokens: int = 50, chat: bool = False, **options: Any) -> str:
        """Continue a prompt; greedy unless options such as `do_sample=True` say otherwise.

        Parameters
        ----------
        prompt
            The text to continue.
        max_new_tokens
            How many tokens to add at most.
        chat
            True puts the prompt through the model's chat template, as the user's turn.
        **options
            Passed on to transformers' `generate`.

        Returns
        -------
        str
            The new text alone.
        """
        self._require_tokenizer()
        if chat:
            if not getattr(self.tokenizer, "chat_template", None):
                raise BadInput(f"{self.name} has no chat template: call generate without chat=True")
            turns = [{"role": "user", "content": prompt}]
            prompt = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = torch.tensor([self.tokenize(prompt)], device=self.device)
        settings = {"do_sample": False, "pad_token_id": self._pad_id, **options}
        with module_lock(self.module), torch.no_grad():
            out = self.module.generate(  # type: ignore[operator]  # torch types every attribute of a module as Tensor
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, **settings
            )
        return self.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)

    def logits(self, text: str | Sequence[int]) -> torch.Tensor:
        """Next-token logits at each position of one text or one list of ids: (seq, vocab), float32, on the CPU."""
        ids = self.tokenize(text) if isinstance(text, str) else list(text)
        return self.spliced_logits([ids])[0].float().cpu()

    # -- activations --------------------------------------------------------------------------------------

    def trace(self, *args: Any, **options: Any) -> Any:
        """Hand out nnsight's own tracer over this model: `with model.trace("text") as tracer: ...`.

        The block runs with the model's lock held, so that traces from several threads do not meet; the
        source is read anew when its file has changed, and `%%time` cells work.
        """
        refresh_source(sys._getframe(1))
        options.setdefault("backend", LockedBackend(self.module))
        return self.nnsight.trace(*args, **options)

    def activations(self, batch: Sequence[Sequence[int]], sites: str | Sequence[str]) -> dict[str, list[torch.Tensor]]:
        """Read activations of a batch of token sequences, and stop after the deepest site.

        Parameters
        ----------
        batch
            Sequences of token ids, of any lengths.
        sites
            Name of a site, or names of several; all are read in one pass.

        Returns
        -------
        dict
            For each given name a list of tensors (seq, width), one a sequence, padding removed, in the
            model's precision and on its device.
        """
        check_batch(batch, self.vocab_size)
        wanted, ordered = self._wanted(sites)
        inputs, mask = self._inputs(batch)
        values = _passes.read(self.nnsight, self.module, inputs, ordered)
        return {name: _rows(values[site.alias], mask, name) for name, site in wanted.items()}

    def gradients(
        self, batch: Sequence[Sequence[int]], sites: str | Sequence[str]
    ) -> tuple[dict[str, list[torch.Tensor]], dict[str, list[torch.Tensor]]]:
        """Read activations and the gradient of the model's loss at them, in one pass forward and one back.

        The loss is the sum over each sequence of the cross-entropies of its next tokens, in nats. So the gradient
        at a position holds its effect on all later predictions of the sequence, and is made with the tokens that
        follow, the labels; at the last position, which predicts no token of the sequence, it is 0. The weights
        stay frozen.

        Parameters
        ----------
        batch, sites
            As in `activations`.

        Returns
        -------
        (activations, gradients)
            Two dicts as `activations` gives, detached.
        """
        check_batch(batch, self.vocab_size)
        wanted, ordered = self._wanted(sites)
        found: tuple[dict[str, list[torch.Tensor]], dict[str, list[torch.Tensor]]] = ({}, {})
        for part in few_logits(batch, self.vocab_size):
            inputs, mask = self._inputs(part)
            both = _passes.loss_gradients(self.nnsight, self.module, inputs, ordered, mask)
            for kind, values in zip(found, both, strict=True):
                for name, site in wanted.items():
                    kind.setdefault(name, []).extend(_rows(values[site.alias], mask, name))
        return found

    def spliced_logits(
        self,
        batch: Sequence[Sequence[int]],
        site: str | None = None,
        splice: Splice | None = None,
        *,
        gradients: bool = False,
        read: str | None = None,
    ) -> list[torch.Tensor]:
        """Logits of a batch, with the activations at one site replaced on the way.

        Parameters
        ----------
        batch
            Sequences of token ids.
        site
            Where to replace; None runs the model as it is.
        splice
            Takes the activations (rows, width) of all tokens and their positions in their sequences (rows,),
            gives the replacement (rows, width).
        gradients
            True lets gradients flow from the logits back into `splice`, through the frozen model.
        read
            A site that the model reaches before `site`; its activations are a third argument of `splice`.

        Returns
        -------
        list of tensors (seq, vocab), one a sequence
        """
        check_batch(batch, self.vocab_size)
        inputs, mask = self._inputs(batch)
        if site is None or splice is None:
            logits = _passes.plain(self.module, inputs)
        else:
            source = None if read is None else self.site(read)
            place = self.site(site)
            logits = _passes.spliced(self.nnsight, self.module, inputs, place, mask, splice, gradients, source)
        return [logits[row, :length] for row, length in enumerate(mask.sum(dim=1).tolist())]

    def unembed(self, directions: torch.Tensor) -> torch.Tensor:
        """Project residual-stream directions onto the vocabulary.

        Parameters
        ----------
        directions
            (n, d_model).

        Returns
        -------
        Tensor (n, vocab), float32, on the CPU
            `directions * gain @ W_U.T`, where gain is that of the final norm. The norm's division by the
            activation's size is left out: it has no value without a text.
        """
        weight = self._require("get_output_embeddings", "has no unembedding").weight
        if directions.ndim != 2 or directions.shape[1] != weight.shape[1]:
            raise BadInput(
                f"directions of shape {tuple(directions.shape)} do not live in the residual stream, whose width is "
                f"{weight.shape[1]}: logits are known for sites of that width only"
            )
        scaled = directions.to(weight.device, torch.float32)
        try:
            norm: Any = self.module.get_submodule(self.site("norm").path)
            gain = norm.weight.detach().float()
            scaled = scaled * (gain + 1 if "Gemma" in type(self.module).__name__ else gain)  # Gemma stores gain - 1
        except BadInput:
            pass  # no final norm: the directions meet the unembedding as they are
        return (scaled @ weight.detach().float().T).cpu()

    # -- inside -------------------------------------------------------------------------------------------

    @property
    def _pad_id(self) -> int:
        """Any valid id: what stands in the padding is never looked at."""
        pad = self.tokenizer.pad_token_id if self.tokenizer is not None else None
        return 0 if pad is None else pad

    @property
    def _causal(self) -> bool:
        """Whether tokens see only what comes before them, so that padding on the right needs no mask."""
        return bool(getattr(self.module, "can_generate", lambda: False)()) and not getattr(
            self.module.config, "is_encoder_decoder", False
        )

    def _wanted(self, sites: str | Sequence[str]) -> tuple[dict[str, Site], list[Site]]:
        """The sites by the names given, and each of them once, in the order in which the model comes to them."""
        wanted = {name: self.site(name) for name in ([sites] if isinstance(sites, str) else sites)}
        return wanted, self._sites.in_order(list({site.alias: site for site in wanted.values()}.values()))

    def _inputs(self, batch: Sequence[Sequence[int]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        ids, mask = pad_right(batch, self._pad_id, self.device)
        # a causal model gets an all-ones mask, which lets attention take its fast path
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids) if self._causal else mask.long()}, mask

    def _probe(self) -> None:
        ids = torch.zeros((1, 2), dtype=torch.int64, device=self.device)
        with torch.no_grad():
            self.module(input_ids=ids)

    def _require_tokenizer(self) -> None:
        if self.tokenizer is None:
            raise BadInput(f"{self.name} has no tokenizer: pass one with load_model(module, tokenizer=...)")

    def _require(self, getter: str, complaint: str) -> Any:
        part = getattr(self.module, getter, lambda: None)()
        if part is None:
            raise BadInput(f"{self.name} {complaint}: this needs a language model")
        return part


def _wrap(module: torch.nn.Module, tokenizer: Any) -> Any:
    """Wrap a module in the nnsight class that fits; the tokenizer is always handed over, never guessed."""
    if tokenizer is None:
        return nnsight.NNsight(module)
    task = "text-generation" if getattr(module, "can_generate", lambda: False)() else "feature-extraction"
    return nnsight.TransformersModel(module, tokenizer=tokenizer, task=task)


def _rows(value: Any, mask: torch.Tensor, name: str) -> list[torch.Tensor]:
    """What stands at a site as rows (seq, width), one tensor a sequence, padding removed."""
    tensor = first_tensor(value)
    if tensor is None or tensor.shape[:2] != mask.shape:
        shape = "no tensor" if tensor is None else f"shape {tuple(tensor.shape)}"
        raise BadInput(f"site {name} gives {shape}, not one row a token: choose another site")
    return [tensor[row, :length].flatten(1) for row, length in enumerate(mask.sum(dim=1).tolist())]
