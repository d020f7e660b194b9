"""The Optuna study of a search: where it is stored, and what it is of."""

import contextlib
import json
import os
import pathlib
import socket
import warnings

import optuna
import sqlalchemy
import sqlalchemy.exc
from optuna.storages import JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from efficientnetv2_tf.search.hparams import proxy_config
from efficientnetv2_tf.search.samplers import make_sampler
from efficientnetv2_tf.training.hparams import ConfigError

_JOURNAL = ".journal"
_HEARTBEAT, _GRACE = 60, 300  # s; a trial that is silent for the second counts as its process' death
_PRUNED_FROM = 8  # trials after which the median says something


def open_study(recipe, space, output):
    """Makes a study, or opens the one that is there under its name.

    Args:
        recipe: a `SearchRecipe`.
        space: its `SearchSpace`.
        output: folder for study.db where `search.storage` names no other place; it exists.

    Returns:
        An `optuna.Study`.

    Raises:
        ConfigError: the storage cannot be reached, or holds another search under this name.
    """
    search = recipe.search
    address = search.storage or f"sqlite:///{pathlib.Path(output).resolve() / 'study.db'}"
    pruner = optuna.pruners.MedianPruner(_PRUNED_FROM) if search.prune else optuna.pruners.NopPruner()
    try:
        study = optuna.create_study(
            study_name=search.study,
            storage=_storage(address),
            sampler=make_sampler(search.sampler, search.seed),
            pruner=pruner,
            direction="maximize",
            load_if_exists=True,
        )
        study.get_trials(deepcopy=False)
    except (OSError, ImportError, ValueError, RuntimeError, *_STORAGE_ERRORS) as error:
        raise ConfigError(
            f"search.storage: {_shown(address)} cannot be used: {str(error).splitlines()[0].rstrip('.')}. Expected "
            "sqlite:///FILE, postgresql+psycopg://USER:PASSWORD@HOST/DATABASE (pip install 'psycopg[binary]'), "
            "mysql+pymysql://... (pip install pymysql), or FILE.journal."
        ) from error
    _claim(study, _settings(recipe, space), _shown(address))
    _fail_dead_trials(study)
    return study


_STORAGE_ERRORS = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError)


def _shown(address):
    """The address without its password."""
    try:
        return sqlalchemy.engine.make_url(address).render_as_string(hide_password=True)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return address.rpartition("@")[2]


def _storage(address):
    if address.endswith(_JOURNAL):
        return JournalStorage(JournalFileBackend(address))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of the heartbeat
        return RDBStorage(
            address,
            # Several processes write to one file.
            engine_kwargs={"connect_args": {"timeout": 60}} if address.startswith("sqlite") else None,
            heartbeat_interval=_HEARTBEAT,
            grace_period=_GRACE,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=1),
        )


def _settings(recipe, space):
    """What the trials of one study have to have in common: {name: value}."""
    search = recipe.search.model_dump(mode="json", include={"step_time_exponent", "parameters_exponent"})
    proxy = proxy_config(recipe).model_dump(mode="json", exclude={"runtime": True, "data": {"data_dir", "cache_dir"}})
    flat = {f"{section}.{key}": value for section, values in proxy.items() for key, value in values.items()}
    options = {name: list(values) for name, values in space.options().items()}
    limits = {name: getattr(space, name) for name in ("max_parameters", "max_multiply_adds")}
    return {**options, **limits, **search, **flat, "runtime.seed": recipe.runtime.seed}


def _claim(study, settings, address):
    """Refuses a study of something else."""
    known, used = study.user_attrs.get("settings"), study.get_trials(deepcopy=False)
    if known is None and used:
        raise ConfigError(
            f"search.study: {study.study_name!r} in {address} is of something else than this package's search. Choose "
            "another name, or another --output."
        )
    # Of a start that came to nothing no more than its settings are left.
    if known is None or (not used and "references" not in study.user_attrs):
        study.set_user_attr("settings", settings)
        return
    settings = json.loads(json.dumps(settings))
    names = [name for name in {**known, **settings} if known.get(name) != settings.get(name)]
    if names:
        shown = "; ".join(f"{name}: {known.get(name)} -> {settings.get(name)}" for name in names[:5])
        raise ConfigError(
            f"search.study: {study.study_name!r} in {address} is of another search ({shown}"
            f"{'; ...' if names[5:] else ''}). Choose another name, or another --output."
        )


def _fail_dead_trials(study):
    """Marks what processes of this machine have left that are no more.

    Journal files have no heartbeat that would tell; databases do, after a while.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, process = trial.user_attrs.get("worker", "").rpartition(":")
        if host == socket.gethostname() and not _is_alive(int(process)):
            # Another process may be quicker.
            with contextlib.suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
                study.tell(trial.number, state=TrialState.FAIL)


def worker_name():
    """HOST:PROCESS of this process, by which a trial is known as its own."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
