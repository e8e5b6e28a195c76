"""When each option of each command has an effect: a rule an option (`robcert.cli.effect` applies them)."""

from __future__ import annotations

from dataclasses import fields

from robcert.cli.given import Given, Idle, Rule
from robcert.cli.rules import DATA, MODEL, always, beside, either, files, named, never, subset, unless, unless_named
from robcert.errors import RobcertError

OUTPUT: dict[str, Rule] = {"output_format": always, "output": always}

# Attack

_ONE_BY_ONE = ("attack", "iterations", "restarts")


def not_in_plan(given: Given) -> Idle | None:
    """--attack, --iterations, --restarts: where no plan names them that is as near to the command line."""
    if given["plan"] is None or given.strength(*_ONE_BY_ONE) < given.strength("plan"):
        return None
    return Idle(
        "--plan already names attacks, iterations and restarts",
        "Give --plan (pgd:100x10 has 10 restarts), or --attack with --iterations and --restarts",
    )


def the_plan(given: Given) -> Idle | None:
    """--plan: where nothing nearer to the command line names the attacks."""
    if given.strength(*_ONE_BY_ONE) >= given.strength("plan"):
        return None
    return Idle("--attack, --iterations or --restarts go before it", "Leave it out.")


def a_sweep(given: Given) -> Idle | None:
    """--flat: where a plan has a leg with ten times the iterations of one before it."""
    from robcert.runs.plan import swept

    if given.legs is None or swept(given.legs) or given["until"]:
        return None
    return Idle(
        "it judges a sweep, and no leg has ten times the iterations of one before it",
        "Leave it out, or give such legs: --plan cw:100,1k",
    )


def an_option(name: str) -> Rule:
    """An option of some attacks: where one of the plan has it."""

    def rule(given: Given) -> Idle | None:
        from robcert.attacks import attacks

        if given.legs is None:
            return None
        names = list(dict.fromkeys(leg.attack for leg in given.legs))
        if any(name in {f.name for f in fields(attacks.get(attack))} for attack in names):  # type: ignore[arg-type]
            return None
        return Idle(f"none of the attacks {', '.join(names)} has it", "Leave it out, or choose another attack.")

    return rule


def minimizing(given: Given) -> Idle | None:
    """--search-steps: values of c, or budgets that are tried to come closer."""
    goal = given["goal"] or ("minimize" if "," in (given["eps"] or "") else "decide")
    if given.legs is None or goal != "decide" or any("cw" in leg.attack for leg in given.legs):
        return None
    return Idle("with --goal decide one budget is tried", "Leave it out, or add --goal minimize.")


def time_of_certificate(given: Given) -> Idle | None:
    """--time-per-image: of certificates that look for radii one by one."""
    if given["certify"] not in ("none", "gap"):
        return None
    return Idle(f"--certify {given['certify']} needs no limit", "Leave it out, or add --certify best.")


running = beside("dry_run", "--dry-run attacks nothing", "Leave it out, or leave out --dry-run.")

ATTACK: dict[str, Rule] = {
    "models": always,
    **DATA,
    "seed": always,
    **MODEL,
    "download": unless_named(files),
    "plan": the_plan,
    **dict.fromkeys(_ONE_BY_ONE, not_in_plan),
    **dict.fromkeys(("eps", "norm", "goal", "certify", "option", "eot", "dry_run"), always),
    "time_per_image": time_of_certificate,
    "step": an_option("step_size"),
    "objective": an_option("objective"),
    "search_steps": either(an_option("search_steps"), minimizing),
    "flat": either(running, a_sweep),
    **dict.fromkeys(("until", "time_budget", "verify_with", "run", "checkpoint"), running),
    **dict.fromkeys(("threads", "search_precision"), always),
    "vnnlib": always,
    **OUTPUT,
}

# Verify


def normalised(given: Given) -> Idle | None:
    """--mean and --std: a property speaks of the inputs of the file itself."""
    if given["instances"] is None and (not given.formats or any(kind != "onnx" for kind in given.formats)):
        return None
    return Idle("a property speaks of the inputs of the ONNX file itself", "Leave it out.")


VERIFY: dict[str, Rule] = {
    **dict.fromkeys(("models", "prop", "instances", "timeout", "plan", "arithmetic", "seed"), always),
    **MODEL,
    "mean": normalised,
    "std": normalised,
    "box": never("a property says which inputs it speaks of"),
    **dict.fromkeys(("results", "counterexamples", "run", "threads"), always),
    **OUTPUT,
}

# Certify


def by_method(*methods: str, why: str) -> Rule:
    """Return the rule of an option that all methods but these use."""

    def rule(given: Given) -> Idle | None:
        wanted = {part.strip() for part in given["method"].split(",") if part.strip()}
        return Idle(why, "Leave it out, or choose another --method.") if wanted and wanted <= set(methods) else None

    return rule


def smoothing(given: Given) -> Idle | None:
    """The options of --method smoothing."""
    if "smoothing" in {part.strip() for part in given["method"].split(",")}:
        return None
    return Idle("it is an option of --method smoothing", "Leave it out, or add --method smoothing.")


CERTIFY: dict[str, Rule] = {
    **dict.fromkeys(("models", "eps", "norm", "method", "bins", "fallback"), always),
    "goal": by_method("gap", why="--method gap gives the same radius for either goal"),
    "time_per_image": by_method("gap", "smoothing", why=f"{'gap and smoothing'} take the time that they need"),
    **dict.fromkeys(("sigma", "samples", "confidence"), smoothing),
    **DATA,
    "seed": lambda given: None if smoothing(given) is None else subset(given),
    **MODEL,
    "download": unless_named(files),
    "attacks": unless("bins", "it adds attacked accuracy to bins, and there are none", "Add --bins 10."),
    **dict.fromkeys(("run", "threads"), always),
    "switch": unless("fallback", "it says when a --fallback answers, and there is none", "Add --fallback MODEL."),
    **OUTPUT,
}

# Gate

no_start = either(
    beside("init", "--init writes a policy and gives no verdict", "Leave it out."),
    beside("update_baseline", "--update-baseline writes a baseline and gives no verdict", "Leave it out."),
)
starting = unless("init", "the policy says it", "Leave it out, or write a policy with --init.")
of_a_model = unless(
    "models",
    "it speaks of a model of the command line, and none was named",
    'Name it, or say it in the policy: models = [{ path = "...", arch = "..." }]',
)


def order_of_init(given: Given) -> Idle | None:
    """--class-order, where --init names the data; a policy's own data are known once it is read."""
    return named(given) if given["init"] else None


def files_of_init(given: Given) -> Idle | None:
    """--data-dir and --download, likewise."""
    return files(given) if given["init"] else None


GATE: dict[str, Rule] = {
    **dict.fromkeys(("models", "policy", "init", "time_budget"), always),
    **dict.fromkeys(("inconclusive", "output_format", "output", "save"), no_start),
    **dict.fromkeys(
        ("full", "time_per_image"), beside("init", "--init writes a policy and gives no verdict", "Leave it out.")
    ),
    "time_budget": always,
    "runs": beside("init", "--init keeps no run", "Leave it out."),
    "data_dir": files_of_init,
    "class_order": order_of_init,
    **{name: either(of_a_model, rule) for name, rule in MODEL.items()},
    "device": always,  # for the models of the policy too
    "download": unless_named(files_of_init),
    **dict.fromkeys(("data", "split", "n", "seed", "norm"), starting),
    "batch_size": always,
    "update_baseline": beside("init", "--init writes a policy, of which there is no baseline", "Leave it out."),
}

# Detect

fixed = beside("threshold_from", "the threshold is that of --threshold-from", "Leave it out, or fix a threshold anew.")
attacking = beside("images", "--images screens files, and nothing is attacked", "Leave it out, or leave out --images.")


def with_data(given: Given) -> Idle | None:
    """In effect where data are read: to fix a threshold, or to attack."""
    if not (given["images"] and given["threshold_from"]):
        return None
    return Idle("--images and a stored threshold need no data", "Leave it out.")


DETECT: dict[str, Rule] = {
    **dict.fromkeys(("model", "statistic", "threshold_from", "store", "images"), always),
    **dict.fromkeys(("rate", "calibration", "calibrate_on"), fixed),
    **{name: either(with_data, rule) for name, rule in DATA.items()},
    "n": attacking,
    "seed": with_data,
    "batch_size": attacking,
    **MODEL,
    "box": with_data,
    "download": unless_named(either(with_data, files)),
    **dict.fromkeys(("plan", "attacked", "option", "plot", "run", "threads"), attacking),
    **OUTPUT,
}

# The others


def files_of_recipe(given: Given) -> Idle | None:
    """For the data of a recipe."""
    from robcert.data import datasets, where
    from robcert.training import read_recipe

    try:
        name = read_recipe(given["recipe"]).data
        inside = not datasets.get(name.partition(":")[0]).from_path and where(name)
    except RobcertError:
        return None
    return None if inside else Idle(f"the recipe's data, {name}, need none", "Leave it out.")


def of_table(name: str) -> Rule:
    """An option of `robcert reproduce`: where the table reads it."""

    def rule(given: Given) -> Idle | None:
        from robcert.reproductions import UNUSED, reproductions

        if given["table"] is None:
            return Idle("without a table all of them are listed", "Name a table.")
        if given["table"] not in reproductions:
            return None
        if name in UNUSED.get(given["table"], ()):
            return Idle(f"{given['table']} does not use it", "Leave it out.")
        return files(given) if name in ("data_dir", "download") and given["data"] else None

    return rule


def gradients_of_data(given: Given) -> Idle | None:
    """--data-dir of `robcert compare`: where gradients are measured, on the data of the runs."""
    return None if given["gradients"] else Idle("--no-gradients reads no data", "Leave it out.")


def alone(given: Given) -> Idle | None:
    """Options of a group of commands: where none of them was named."""
    if given.subcommand is None:
        return None
    return Idle(f"`{given.subcommand}` has options of its own", f"Write it behind {given.subcommand}.")


_TABLE = ("n", "max_iterations", "restarts", "data", "seed", "data_dir", "download", "device", "threads", "models")

USES: dict[str, dict[str, Rule]] = {
    "attack": ATTACK,
    "certify": CERTIFY,
    "verify": VERIFY,
    "gate": GATE,
    "report": dict.fromkeys(("runs", "output", "title"), always),
    "norms": {
        **dict.fromkeys(("models", "tol", "papers", "plot"), always),
        **MODEL,
        "box": never("norms of operators hold for all inputs"),
        **OUTPUT,
    },
    "jacobian": {
        **dict.fromkeys(("models", "norm", "attacks", "plot", "run", "threads"), always),
        **DATA,
        **MODEL,
        "download": unless_named(files),
        **OUTPUT,
    },
    "detect": DETECT,
    "compare": {**dict.fromkeys(("runs", "gradients", "plot"), always), "data_dir": gradients_of_data, **OUTPUT},
    "runs": dict.fromkeys(("folder", "command", "model", "norm", "sort", "remove", "yes", "output_format"), always),
    "leaderboard": {**dict.fromkeys(("runs", "sort"), always), **OUTPUT},
    "show": dict.fromkeys(("run", "index", "model", "output"), always),
    **{listing: {"output_format": always} for listing in ("models", "architectures", "attacks", "certificates")},
    "export": {"model": always, "target": always, **MODEL, **OUTPUT},
    "train": {
        **dict.fromkeys(("recipe", "output", "device", "threads"), always),
        **dict.fromkeys(("data_dir", "download"), files_of_recipe),
    },
    "reproduce": {
        "table": always,
        **{name: of_table(name) for name in (*_TABLE, "runs", "results", "output_format", "output")},
    },
    "data": dict.fromkeys(("data_dir", "output_format"), alone),
    "data lipschitz": {
        "names": always,
        "exclude_duplicates": always,
        **{name: rule for name, rule in DATA.items() if name not in ("data", "batch_size")},
        **OUTPUT,
    },
}
"""Command -> parameter -> rule; `tests/cli/test_effect.py` holds them against the commands."""
