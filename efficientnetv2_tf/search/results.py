"""What a search leaves: best.yaml with its larger sizes, trials.csv and search.png."""

import csv
import statistics

import rich.table
from optuna.trial import TrialState

from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.networks.block_string import expand
from efficientnetv2_tf.networks.cost import multiply_adds, parameters
from efficientnetv2_tf.networks.scaling import LATE_STAGES, scaled_family
from efficientnetv2_tf.search.display import best_trial, evaluated_trials, results_table, stage_pattern
from efficientnetv2_tf.search.hparams import plain_config
from efficientnetv2_tf.search.pictures import draw_search
from efficientnetv2_tf.training.hparams import resolve
from efficientnetv2_tf.training.recipes import to_yaml

_COLUMNS = (
    "number", "state", "reward", "accuracy", "step_seconds", "step_ratio", "step_spread", "load", "parameters",
    "parameter_ratio", "multiply_adds", "epochs", "seconds", "same_as", "refused", "failed", "worker", "stages",
    "blocks",
)  # fmt: skip


def write_results(study, recipe, space, output, console):
    """Writes trials.csv and, if a network was found, best.yaml, best-m.yaml, best-l.yaml and search.png; sums up.

    Args:
        study: the `optuna.Study`.
        recipe: a `SearchRecipe`.
        space: its `SearchSpace`.
        output: folder.
        console: a `rich.console.Console`.

    Returns:
        The best trial, or None where none was trained to the end.
    """
    references = study.user_attrs["references"]
    trials = study.get_trials(deepcopy=False)
    write_trials(trials, output / "trials.csv")
    best = best_trial(study)
    if best is None:
        console.print(f"No network was trained to the end yet. Wrote {output / 'trials.csv'}.", soft_wrap=True)
        return None
    console.print(results_table(study, references))
    console.print(_summary(study, best, references))
    write_best(best, recipe, output / "best.yaml")
    console.print(_write_sizes(best, recipe, space, output))
    draw_search(evaluated_trials(study), best, references, output / "search.png", _title(study, space))
    console.print(f"Wrote best.yaml, best-m.yaml, best-l.yaml, trials.csv and search.png to {output}", soft_wrap=True)
    console.print(f"To train it: python tools/main.py --mode=train --hparams={output / 'best.yaml'}", soft_wrap=True)
    return best


def _title(study, space):
    return f"{len(evaluated_trials(study))} networks with the channels of {space.backbone} (study {study.study_name})"


def _summary(study, best, references):
    trials = evaluated_trials(study)
    whole = [trial.value for trial in trials if trial.state == TrialState.COMPLETE]
    failed = [trial for trial in trials if "failed" in trial.user_attrs]
    text = (
        f"Best reward {best.value:.4f} (trial {best.number}); median of the {len(whole)} that were trained to the end "
        f"{statistics.median(whole):.4f}; backbone {references['backbone']['reward']:.4f}."
    )
    return f"{text} {len(failed)} failed, see trials.csv." if failed else text


def write_trials(trials, path):
    """Writes a line for each trial of a study.

    Args:
        trials: of the study.
        path: of the CSV file.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, restval="")
        writer.writeheader()
        for trial in trials:
            values = {name: value for name, value in trial.user_attrs.items() if name in _COLUMNS}
            if trial.value is not None:
                values["reward"] = trial.value
            if trial.duration:
                values["seconds"] = round(trial.duration.total_seconds(), 1)
            if blocks := values.pop("blocks", None):
                values |= {"blocks": " ".join(blocks), "stages": stage_pattern(blocks)}
            writer.writerow({"number": trial.number, "state": trial.state.name.lower(), **values})


def write_best(trial, recipe, path):
    """Writes the recipe that trains a trial's network to the end.

    Args:
        trial: of the study.
        recipe: the `SearchRecipe`.
        path: of the YAML file.
    """
    values = trial.user_attrs
    comment = (
        f"# Found by an architecture search (study {recipe.search.study}, trial {trial.number}).\n"
        f"# Of the search's short training: reward {trial.value:.4f}, accuracy {values['accuracy']:.4f}, training step "
        f"{values['step_ratio']:.3f} and parameters {values['parameter_ratio']:.3f} of the backbone's.\n"
        f"#   python tools/main.py --mode=train --hparams={path.name}\n"
    )
    _write(comment, plain_config(recipe, values["blocks"]), path)


def _write(comment, config, path):
    with replacing(path) as temporary:
        temporary.write_text(comment + to_yaml(config), encoding="utf-8")


def _write_sizes(best, recipe, space, output):
    """Writes best-m.yaml and best-l.yaml; gives a table of the three sizes."""
    blocks, config = best.user_attrs["blocks"], resolve(recipe)
    late = tuple(stage for stage in LATE_STAGES if stage <= len(blocks)) or (len(blocks),)
    table = rich.table.Table(title="The network's sizes (networks/scaling.py)", title_justify="left")
    for heading in ("", "parameters", "multiply-adds", "training, px", "evaluation, px", "stages"):
        table.add_column(heading, justify="left" if heading in ("", "stages") else "right")
    own = {"eval": config.data.eval_image_size, "train": config.progressive.image_size}
    for network in scaled_family(blocks, eval_size=own["eval"], late_stages=late):
        if network.name == "s":
            eval_size, train_sizes = own["eval"], own["train"]
        else:
            eval_size = max(own["eval"], network.eval_size)  # above V2's cap for the largest backbones
            train_sizes = tuple(max(1, round(size * eval_size / own["eval"])) for size in own["train"])
            changes = {"data": {"eval_image_size": eval_size}, "progressive": {"image_size": train_sizes}}
            comment = f"# Size {network.name.upper()} of the network in best.yaml.\n"
            _write(comment, plain_config(recipe, network.blocks, **changes), output / f"best-{network.name}.yaml")
        expanded = expand(network.blocks)
        counts = {"feature_size": space.scaled_feature_size, "num_classes": space.num_classes}
        table.add_row(
            network.name.upper(),
            f"{parameters(expanded, **counts)[0] / 1e6:.2f}M",
            f"{multiply_adds(expanded, eval_size, **counts) / 1e6:.1f}M",
            " to ".join(map(str, dict.fromkeys(train_sizes))),
            str(eval_size),
            stage_pattern(network.blocks),
        )
    return table
