"""The search for a network; `search` reads as a table of contents."""

import contextlib
import pathlib

from rich.console import Console

from efficientnetv2_tf.search.display import SearchDisplay
from efficientnetv2_tf.search.evaluator import CandidateError, Evaluator
from efficientnetv2_tf.search.hparams import check_recipe, make_space
from efficientnetv2_tf.search.results import write_results
from efficientnetv2_tf.search.samplers import quiet_optuna
from efficientnetv2_tf.search.study import open_study
from efficientnetv2_tf.search.trials import Trials, attributes
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.stopping import StopSignals


def search(recipe, output, *, console=None):
    """Searches for a network whose reward is the largest, or goes on with a search.

    Several processes, on one or more machines, work on one study when they are given the same storage (or the same
    `output`, on one machine). Each trains one candidate at a time.

    Args:
        recipe: a `SearchRecipe`.
        output: folder for best.yaml, trials.csv, search.png and, unless `search.storage` says otherwise, study.db.
        console: a `rich.console.Console`; None prints to the terminal.

    Returns:
        The `optuna.Study`.

    Raises:
        SpaceError: the space is empty.
        ConfigError: the recipe is impossible, its data set is not to be had, the storage cannot be used, or no network
            could be trained.
        Interrupted: a `KeyboardInterrupt`, after SIGTERM or Ctrl-C; what was found is written.
    """
    console, output = console or Console(), pathlib.Path(output)
    check_recipe(recipe)
    # The number of classes is known when the data is open; with one, no network costs less.
    space = make_space(recipe, num_classes=recipe.model.num_classes or 1)
    output.mkdir(parents=True, exist_ok=True)
    with quiet_optuna(), StopSignals(None, "The same command goes on.") as signals:
        study = open_study(recipe, space, output)
        console.print(f"Study {study.study_name!r}, {len(study.trials)} trials so far. Opening the data ...")
        with contextlib.closing(Evaluator(recipe)) as evaluator:
            space = make_space(recipe, num_classes=evaluator.num_classes)
            _show_space(space, console)
            references = measure_references(study, recipe, space, evaluator, console)
            try:
                with SearchDisplay(console, study, recipe.search, references) as display:
                    Trials(study, recipe, space, evaluator, display, signals).run()
            finally:
                evaluator.close()
                best = write_results(study, recipe, space, output, console)
    if best is None:
        raise ConfigError(f"No network could be trained to the end; {output / 'trials.csv'} says why.")
    return study


def _show_space(space, console):
    share = space.share_within_limits()
    cost = space.cost(space.backbone_blocks())
    limits = "" if share == 1 else f" About {share:.1%} of them are within the limits."
    console.print(
        f"{space.size:.3g} networks with the channels of {space.backbone} ({cost.parameters / 1e6:.2f}M parameters, "
        f"{cost.multiply_adds / 1e6:.1f}M multiply-adds at {space.image_size} px).{limits}"
    )


def measure_references(study, recipe, space, evaluator, console):
    """Trains what candidates are compared with, if the study has not done so before.

    Args:
        study: the `optuna.Study`, which keeps them.
        recipe: a `SearchRecipe`.
        space: its `SearchSpace`.
        evaluator: an `Evaluator`.
        console: a `rich.console.Console`.

    Returns:
        {"backbone", "EfficientNetV2's pattern"}, each a dictionary as a trial's attributes.

    Raises:
        ConfigError: one of them cannot be trained.
    """
    found = dict(study.user_attrs.get("references", {}))
    for name, blocks in (("backbone", space.backbone_blocks()), ("EfficientNetV2's pattern", space.v2_blocks())):
        if name in found:
            continue
        console.print(f"Training to compare with: {name} ...")
        same = next((values for values in found.values() if values["blocks"] == list(blocks)), None)
        try:
            found[name] = same or attributes(recipe, space, blocks, evaluator.evaluate(blocks))
        except CandidateError as error:
            raise ConfigError(f"{name} cannot be trained, and so there is nothing to compare with. {error}") from error
    study.set_user_attr("references", found)
    return found
