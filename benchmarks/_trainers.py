"""The trainers that take turns in training_step.py, each run by the interpreter that has its library.

Every one is the class that its users call, with the rows handed to it in memory: a data provider for SAELens, an
iterator for dictionary_learning, a stand-in for the language model in sparsify (it wants one; this one emits the
rows), a store that yields them for us. Adam everywhere, learning rate 1e-4, no logging; no latent gets to be dead.
"""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Any

import torch
from _turns import Task, Turns, run
from torch import Tensor

LR, STEPS, NEVER = 1e-4, 100_000, 10**9


def facts(distribution: str) -> dict[str, Any]:
    """What is told of a library."""
    return {"version": importlib.metadata.version(distribution)}


def product(task: Task) -> None:
    """The encoder's product alone, into an output that is there already: what exact selection cannot do without."""
    turns = Turns(task, {"version": torch.__version__})
    W_enc, out = torch.randn(task["d_in"], task["d_sae"]), torch.empty(task["batch"], task["d_sae"])
    with torch.no_grad():
        turns.repeat(lambda x: torch.mm(x, W_enc, out=out))


def ours(task: Task) -> None:
    """`sl.train`, its loop and all."""
    import sae_lab as sl

    architecture = getattr(sl, task["architecture"])
    # our modules load on first use, those of the others on import: both before memory is looked at
    options = {} if task["architecture"] == "ReLU" else {"k": task["k"]}
    toy = architecture(d_sae=2 * task["k"], **options)
    sl.train(toy, torch.randn(64, task["d_in"]), steps=1, device="cpu", progress=False, **task["options"])
    turns = Turns(task, facts("sae-lab"))
    config = architecture(d_sae=task["d_sae"], **options)
    acts = sl.Activations.from_array(turns.rows.flatten(0, 1))
    acts.batches = lambda *_, **__: iter(turns)  # type: ignore[method-assign]
    sl.train(
        config,
        acts,
        steps=STEPS,
        batch_size=task["batch"],
        lr=LR,
        dead_window=NEVER,
        device="cpu",
        progress=False,
        **task["options"],
    )


def saelens(task: Task) -> None:
    """SAELens: `SAETrainer.fit`."""
    from sae_lens import StandardTrainingSAEConfig, TopKTrainingSAEConfig
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.sae import TrainingSAE
    from sae_lens.training.sae_trainer import SAETrainer

    turns = Turns(task, facts("sae-lens"))
    size = {"d_in": task["d_in"], "d_sae": task["d_sae"], "device": "cpu", "dtype": "float32"}
    if task["architecture"] == "ReLU":
        config = StandardTrainingSAEConfig(**size, l1_coefficient=5.0, **task["options"])
    else:
        config = TopKTrainingSAEConfig(**size, k=task["k"], **task["options"])
    settings = SAETrainerConfig(
        total_training_samples=STEPS * task["batch"],
        train_batch_size_samples=task["batch"],
        lr=LR,
        lr_end=LR,
        device="cpu",
        logger=LoggingConfig(log_to_wandb=False),
    )
    SAETrainer(settings, TrainingSAE.from_dict(config.to_dict()), iter(turns)).fit()


def sparsify(task: Task) -> None:
    """sparsify: `Trainer.fit`, on a stand-in for a language model that emits the rows; Adam, not its sign descent."""
    from sparsify import SparseCoderConfig, TrainConfig, Trainer, trainer
    from transformers import PretrainedConfig, PreTrainedModel

    trainer.tqdm = functools.partial(trainer.tqdm, disable=True)
    turns = Turns(task, facts("eai-sparsify"))
    waiting: list[Tensor] = []

    class Emitter(PreTrainedModel):
        config_class = PretrainedConfig

        def __init__(self, config: PretrainedConfig):
            super().__init__(config)
            self.layer = torch.nn.Identity()
            self.place = torch.nn.Parameter(torch.zeros(1))  # by which the trainer knows the device
            self.post_init()

        @property
        def dummy_inputs(self) -> dict[str, Tensor]:
            return {"input_ids": torch.zeros(1, 1, dtype=torch.long)}

        def forward(self, input_ids: Tensor, **_: object) -> Tensor:
            rows = waiting.pop() if waiting else torch.zeros(1, task["d_in"])
            return self.layer(rows[None])

    class Tokens:
        """One long text a batch; its rows are got ready when the trainer asks for its tokens."""

        def __init__(self) -> None:
            self.rows, self.ids = iter(turns), torch.zeros(task["batch"], dtype=torch.long)

        def __len__(self) -> int:
            return STEPS

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            waiting.append(next(self.rows))
            return {"input_ids": self.ids}

    settings = TrainConfig(
        SparseCoderConfig(num_latents=task["d_sae"], k=task["k"]),
        batch_size=1,
        optimizer="adam",
        lr=LR,
        hookpoints=["layer"],
        save_every=NEVER,
        log_to_wandb=False,
    )
    Trainer(settings, Tokens(), Emitter(PretrainedConfig())).fit()  # type: ignore[arg-type]


def dictionary_learning(task: Task) -> None:
    """dictionary_learning: `trainSAE` with its TopKTrainer."""
    from dictionary_learning.trainers import TopKTrainer
    from dictionary_learning.training import trainSAE

    turns = Turns(task, facts("dictionary-learning"))
    trainer = {"trainer": TopKTrainer, "steps": STEPS, "activation_dim": task["d_in"], "dict_size": task["d_sae"]}
    trainer |= {"k": task["k"], "layer": 0, "lm_name": "none", "lr": LR, "device": "cpu"}
    trainSAE(iter(turns), [trainer], steps=STEPS, device="cpu")


if __name__ == "__main__":
    run(
        {
            "product": product,
            "ours": ours,
            "saelens": saelens,
            "sparsify": sparsify,
            "dictionary_learning": dictionary_learning,
        }
    )
