"""`compare`: several arms on the same held-out rows, at matched L0, with intervals, where nothing confounds them.

_arms        what the user gave, as a list of SAEs that exist or are to be trained
_checks      what is refused besides confounded arms
_describe    everything known about how each of them comes about
_guard       in what the arms differ, and whether that was declared
_measure     sums of each metric for each document, so that documents can be drawn anew
_predictions the same for what a model's predictions lose
_match       each arm's frontier read at one L0
_intervals   the bootstrap over seeds and documents
_readings    one value for each arm, and the tables
_words       the comparison in a sentence
_figure      and as a plain figure
_result      `Comparison`, the noun
_compare     the verb
"""

from sae_lab.evaluation._comparison._compare import compare
from sae_lab.evaluation._comparison._result import Comparison

__all__ = ["Comparison", "compare"]
