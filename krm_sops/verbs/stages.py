"""``krm-sops stages``: a package with StageSets, looked at, rendered, or split into a folder for each stage."""

from __future__ import annotations

from krm_sops import cli
from krm_sops.errors import ConfigError, PreviousRevisionUnavailable, shown
from krm_sops.functions import Answer, FunctionError
from krm_sops.host import Host
from krm_sops.krm.item import LOCAL_CONFIG
from krm_sops.krm.results import Result
from krm_sops.krm.stream import joined
from krm_sops.limits import FUNCTION
from krm_sops.policy import in_force
from krm_sops.registry import Registry
from krm_sops.stages.plan import Plan, is_stage_set
from krm_sops.verbs import function
from krm_sops.verbs.flags import SWITCH, VALUE, UsageError, parse
from krm_sops.verbs.package import Package

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from krm_sops.policy import Policy
    from krm_sops.stages.spec import Stage
    from krm_sops.tree import Branch
    from krm_sops.verbs.flags import Arguments

HELP = """\
krm-sops stages plan [PACKAGE]        say which stages there are, what is in them, and what waits for what; needs no key
krm-sops stages render [PACKAGE]      all objects, decrypted, in the order of their stages, on stdout
krm-sops stages split DIR [PACKAGE]   a folder for each stage below DIR, which must be new or empty; for nobody else to
                                      read, since it holds plaintext

PACKAGE is a folder with a StageSet (stages.metio.wtf/v1) and the sources of its stages; without it, the working
folder. A stage's objects are those below ./SOURCE/PATH of the package, where SOURCE is the name of its sourceRef, or
where the StageSet's annotation krm-sops.dev/sources (NAME=FOLDER,...) puts it. A folder with a kustomization is built.

  --format FORMAT        of a plan: table (the default), json, mermaid or svg
  --stage NAME           render this stage only
  --revision REV         render the package as it was at REV, a revision of the git repository that it is in. Keys are
                         those of today: where they no longer open what was encrypted then, nothing is written
  --mask                 *** in the place of all that is decrypted
  --strict, and the other flags of the function (see krm-sops --help):
  --mac MODE
  --ambient WHEN
  --key-file FILE
  --root FOLDER
  --limit NAME=NUMBER
  --max-remote-calls NUMBER

StageSets, and objects with the annotation config.kubernetes.io/local-config, are left out. Exit status 1, and nothing
written, where anything is wrong.

Example:
  krm-sops stages render --stage secrets | kubectl apply -f -
"""
FLAGS = {
    "format": VALUE,
    "stage": VALUE,
    "revision": VALUE,
    "mask": SWITCH,
    **function.FLAGS,
    "help": SWITCH,
}
FORMATS: Registry[Callable[[Plan], str]] = Registry(
    table="krm_sops.stages.picture:table",
    json="krm_sops.stages.picture:as_json",
    mermaid="krm_sops.stages.picture:mermaid",
    svg="krm_sops.stages.picture:svg",
)
_UNAVAILABLE = "PreviousRevisionUnavailable: it cannot be rendered with the keys of today; nothing was written"
_OWN_FLAGS = {"plan": ("format",), "render": ("stage", "revision"), "split": ()}


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    verb, *names = given.names or [""]
    if verb not in _OWN_FLAGS:
        raise UsageError(f"stages needs one of {', '.join(_OWN_FLAGS)}", hint="see krm-sops stages --help")
    for flag in ("format", "stage", "revision"):
        if given.given(flag) and flag not in _OWN_FLAGS[verb]:
            raise UsageError(f"stages {verb} has no --{flag}")
    folder = ""
    if verb == "split":
        if not names or not names[0]:
            raise UsageError("stages split needs the name of a folder")
        folder, *names = names
    if len(names) > 1:
        raise UsageError(f"stages {verb} takes one package, not {len(names)}")
    run = _Run(given, names[0] if names else ".")
    if verb == "plan":
        return run.plan()
    return run.split(folder) if verb == "split" else run.render(given.text("stage"), given.text("revision"))


class _Run:
    def __init__(self, given: Arguments, path: str) -> None:
        self.given = given
        self.path = path
        flags = function.read(given)
        flags.mask = given.on("mask")
        cli.limit_time(FUNCTION.changed(flags.limits).run_seconds)
        self.flags = flags
        self.host = Host(set_alarm=cli.limit_time, commands=("kustomize",))
        self.policy: Policy = in_force(self.host, FUNCTION, flags)
        self.policy.apply_to(self.host)

    def plan(self) -> int:
        name = self.given.text("format", "table")
        if name not in FORMATS:
            raise UsageError(f"--format is one of {', '.join(FORMATS)}, not {shown(name, 60)!r}")
        package = Package(self.path, self.host, self.policy, self.flags, builds=False)
        plan = self._planned(package)
        cli.say_results(plan.results)
        if plan.failed:
            return 1
        return cli.write_out(FORMATS[name](plan).encode())

    def render(self, stage: str, revision: str) -> int:
        if self.given.given("revision"):
            from krm_sops.verbs.revision import Revision

            with Revision(self.path, revision, self.host, self.policy) as earlier:
                rendered = self._rendered(earlier.root, earlier.path, is_earlier=True)
        else:
            rendered = self._rendered("", self.path, is_earlier=False)
        if rendered is None:
            return 1
        stages = [one for one in rendered.stages if one.name == stage] if stage else rendered.stages
        if not stages:
            known = ", ".join(dict.fromkeys(one.name for one in rendered.stages))
            raise ConfigError(f"no stage is called {shown(stage, 60)!r}; there are {known}")
        texts = [rendered.text(one) for one in stages]
        return cli.write_out(joined([*([] if stage else [rendered.loose()]), *texts]).encode())

    def split(self, folder: str) -> int:
        from krm_sops.verbs.render import write_folder

        rendered = self._rendered("", self.path, is_earlier=False)
        if rendered is None:
            return 1
        width = len(str(len(rendered.stages)))
        many = len({one.stage_set for one in rendered.stages}) > 1
        files = {}
        for at, stage in enumerate(rendered.stages, 1):
            name = f"{stage.stage_set.name}-{stage.name}" if many else stage.name
            files[f"{at:0{width}}-{name}/manifests.yaml"] = rendered.text(stage)
        if rendered.loose():
            files[f"{0:0{width}}-in-no-stage/manifests.yaml"] = rendered.loose()
        write_folder(folder, files)
        return 0

    def _planned(self, package: Package) -> Plan:
        if not any(is_stage_set(item) for item in package.stream.items):
            raise ConfigError(
                f"{shown(self.path)} holds no StageSet",
                hint="an object of apiVersion stages.metio.wtf/v1 and kind StageSet, in one of its files",
            )
        return Plan(package.stream.items, files=package.files)

    def _rendered(self, root: str, path: str, *, is_earlier: bool) -> _Rendered | None:
        """None where something is wrong, which was told. is_earlier: what git says; its keys are those of today."""
        from krm_sops.functions.stages import Rendering

        now = Package(self.path, self.host, self.policy, self.flags) if is_earlier else None
        package = Package(path, self.host, self.policy, self.flags, root=root, keys=now)
        keys = (now or package).stream
        rendering = Rendering(self._planned(package), package.stream, self.host, self.policy, keys)
        rendering.built = package.built
        try:
            answer = rendering.run()
            results: Sequence[Result] = answer.results
        except FunctionError as error:
            results = error.answer.results
            if is_earlier:
                results = [*results, Result("error", PreviousRevisionUnavailable.reason, _UNAVAILABLE)]
        if self.policy.strict:
            for result in results:
                result.severity = "error" if result.severity == "warning" else result.severity
        cli.say_results(results)
        if any(result.is_error for result in results):
            return None
        return _Rendered(package, rendering.plan, rendering.made, answer)


class _Rendered:
    """made: an object that stands for a stage."""

    def __init__(self, package: Package, plan: Plan, made: dict[Stage, Branch], answer: Answer) -> None:
        self.package = package
        self.plan = plan
        self.stages = plan.stages
        self.made = made
        referred = {(one.namespace, one.secret_ref) for one in plan.sets}
        self.left_out = [
            item
            for item in package.stream.items
            if is_stage_set(item)
            or item in answer.key_items
            or item in answer.consumed
            or item.annotation(LOCAL_CONFIG) not in ("", "false")
            or (item.kind == "Secret" and (item.namespace, item.name) in referred)
        ]

    def text(self, stage: Stage) -> str:
        made = [self.made[stage]] if stage in self.made else []
        return self.package.stream.write(order=stage.items, without=self.left_out, added=made)

    def loose(self) -> str:
        return self.package.stream.write(order=self.plan.loose, without=self.left_out)
