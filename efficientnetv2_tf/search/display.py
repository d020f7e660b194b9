"""What a search shows while it runs: on a terminal a table that moves, elsewhere a line for each trial."""

import time

import rich.live
import rich.table
from optuna.trial import TrialState
from rich.console import Group

from efficientnetv2_tf.networks.block_string import parse_block

_SHOWN = 8  # the best networks


class SearchDisplay:
    """Within the `with` block the best networks so far, trials an hour and the time left are shown.

    Args:
        console: a `rich.console.Console`.
        study: the `optuna.Study`.
        search: the `SearchConfig`.
        references: what candidates are compared with, of `measure_references`.

    Attributes:
        evaluated: trials of the study that were trained, by all processes.
    """

    def __init__(self, console, study, search, references):
        self._console, self._study, self._search, self._references = console, study, search, references
        self._live = None
        self._now = "choosing ..."
        self._refused = 0
        self._read()
        self._before = self.evaluated

    def _read(self):
        """Storages are asked when a trial ends, and not at each refresh."""
        self.evaluated = len(evaluated_trials(self._study))
        self._table = results_table(self._study, self._references)

    def __enter__(self):
        self._began = time.monotonic()
        if self._console.is_terminal:
            self._live = rich.live.Live(console=self._console, refresh_per_second=1, get_renderable=self._render)
            self._live.start()
        return self

    def __exit__(self, *_):
        if self._live:
            self._live.stop()

    def started(self, trial):
        """Notes that a trial's training begins."""
        self._now = f"trial {trial.number}: {trial.user_attrs['parameters'] / 1e6:.2f}M parameters"

    def epoch(self, epoch, accuracy):
        """Notes an epoch of it, counted from 0."""
        self._now = f"{self._now.partition(',')[0]}, epoch {epoch + 1}, accuracy {accuracy:.3f}"

    def finished(self, trial):
        """Shows a trial's end; one that was beyond a limit counts for nothing."""
        self._now = "choosing ..."
        if "refused" in trial.user_attrs:
            self._refused += 1
            return
        self._read()
        if self._console.is_terminal:
            if "failed" in trial.user_attrs:
                self._console.print(f"trial {trial.number}: {_outcome(trial)}", markup=False)
        else:
            best = best_trial(self._study)
            record = f"best {best.value:.4f} (trial {best.number})" if best else "none yet"
            self._console.print(f"trial {trial.number}: {_outcome(trial)}; {record}; {self._pace()}", markup=False)

    def _pace(self):
        """How many trials, of all processes, and how long still."""
        seconds, done = time.monotonic() - self._began, self.evaluated - self._before
        left = [(self._search.trials - self.evaluated) * seconds / done] if done else []
        if self._search.minutes:
            left.append(60 * self._search.minutes - seconds)
        refused = f" ({self._refused} more beyond a limit)" if self._refused else ""
        text = f"{self.evaluated} of {self._search.trials} trials{refused}, {3600 * done / seconds:.0f} trials/h"
        return f"{text}, {_duration(max(0.0, min(left)))} left" if left else text

    def _render(self):
        return Group(self._table, f"{self._pace()}. Now {self._now}")


def evaluated_trials(study):
    """The trials that have a result, or have failed at one: not those that run, were given up or beyond a limit."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return [trial for trial in study.get_trials(deepcopy=False, states=states) if "refused" not in trial.user_attrs]


def best_trial(study):
    """The trial with the largest reward of those that were trained to the end; None where there is none."""
    done = [trial for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if trial.value > 0]
    return max(done, key=lambda trial: trial.value, default=None)


def results_table(study, references, shown=_SHOWN):
    """The best networks of a study as a `rich.table.Table`, with what they are compared with.

    Args:
        study: the `optuna.Study`.
        references: of `measure_references`.
        shown: number of trials.
    """
    table = rich.table.Table(title=f"Best networks of {study.study_name!r}", title_justify="left")
    table.add_column("")
    for heading in ("reward", "accuracy", "step, ms", "x backbone", "parameters", "x backbone"):
        table.add_column(heading, justify="right")
    table.add_column("stages")
    done = [trial for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if trial.value > 0]
    for trial in sorted(done, key=lambda trial: -trial.value)[:shown]:
        table.add_row(f"trial {trial.number}", *_cells(trial.user_attrs))
    table.add_section()
    for name, values in references.items():
        table.add_row(name, *_cells(values))
    return table


def _cells(values):
    return (
        f"{values['reward']:.4f}",
        f"{values['accuracy']:.4f}",
        f"{1000 * values['step_seconds']:.1f}",
        f"{values['step_ratio']:.2f} ± {values['step_ratio'] * values['step_spread']:.2f}",
        f"{values['parameters'] / 1e6:.2f}M",
        f"{values['parameter_ratio']:.2f}",
        stage_pattern(values["blocks"]),
    )


def stage_pattern(blocks):
    """A network in a few letters a stage, as "2F3e4 3M5e6s": blocks, fused or MBConv, kernel, expansion, s for SE."""
    return " ".join(_stage_letters(parse_block(block)) for block in blocks)


def _stage_letters(spec):
    kind, excite = "F" if spec.fused else "M", "s" if spec.se_ratio else ""
    return f"{spec.repeats}{kind}{spec.kernel_size}e{spec.expand_ratio}{excite}"


def _outcome(trial):
    values = trial.user_attrs
    if "failed" in values:
        return f"failed ({values['failed'][:200]})"
    if "accuracy" not in values:
        return "given up"
    ended = f"ended after epoch {values['epochs']}, " if trial.state == TrialState.PRUNED else ""
    return (
        f"{ended}reward {values['reward']:.4f} (accuracy {values['accuracy']:.4f}, step {values['step_ratio']:.2f} and "
        f"parameters {values['parameter_ratio']:.2f} of the backbone's)"
    )


def _duration(seconds):
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
