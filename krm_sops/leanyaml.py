"""libyaml's parser, without the rest of PyYAML: 3 ms at start instead of 24.

`yaml._yaml` (the compiled binding) imports the whole `yaml` package, of which parsing needs four small modules and the
names of some error classes. `lean` loads just those; where PyYAML is not as expected (another layout, no libyaml),
`public` imports it whole. Both are tested. A later real ``import yaml`` in the same process still works.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_STUBS = {
    "yaml.scanner": "ScannerError",
    "yaml.parser": "ParserError",
    "yaml.composer": "ComposerError",
    "yaml.constructor": "ConstructorError",
    "yaml.emitter": "EmitterError",
    "yaml.serializer": "SerializerError",
    "yaml.representer": "RepresenterError",
}


def _location() -> list[str]:
    for finder in sys.meta_path:
        spec = finder.find_spec("yaml", None)
        if spec is not None and spec.submodule_search_locations:
            return list(spec.submodule_search_locations)
    raise ImportError("no yaml package on the module path")


def lean() -> tuple[Any, Any]:
    if "yaml" in sys.modules:
        return public()
    kind: type[ModuleType] = type(sys)
    package: Any = kind("yaml")
    package.__path__ = _location()
    sys.modules["yaml"] = package
    try:
        from yaml import error, events, nodes, tokens

        for module in (error, tokens, events, nodes):
            for name in dir(module):
                if name[0] != "_":
                    setattr(package, name, getattr(module, name))

        class ReaderError(error.YAMLError):
            def __init__(self, name: str, position: int, character: object, encoding: str, reason: str) -> None:  # noqa: ARG002
                self.reason = reason

        stubs = {stub: (name, type(name, (error.MarkedYAMLError,), {})) for stub, name in _STUBS.items()}
        for stub, (name, raised) in {**stubs, "yaml.reader": ("ReaderError", ReaderError)}.items():
            module = sys.modules[stub] = kind(stub)
            setattr(module, name, raised)
            setattr(package, stub[5:], module)
        from yaml._yaml import CParser

        return CParser, error.YAMLError
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name.startswith("yaml.")]:
            del sys.modules[name]  # else `import yaml` finds them, and does not make them its attributes
        raise
    finally:
        for name in ("yaml", "yaml.reader", *_STUBS):
            sys.modules.pop(name, None)


def public() -> tuple[Any, Any]:
    import yaml

    try:
        from yaml._yaml import CParser
    except ImportError:

        class CParser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):  # type: ignore[no-redef]
            """PyYAML's own parser in Python: slower, same events."""

            def __init__(self, text: str) -> None:
                yaml.reader.Reader.__init__(self, text)
                yaml.scanner.Scanner.__init__(self)
                yaml.parser.Parser.__init__(self)

    return CParser, yaml.YAMLError


try:
    parser, YAMLError = lean()
except (ImportError, AttributeError):
    parser, YAMLError = public()


def place(error: Exception) -> tuple[str, int, int]:
    """What a YAMLError complains of, and where: (problem, line, column), counted from 1, 0 where unknown."""
    reason = getattr(error, "reason", None)
    if reason is not None:
        return str(reason), 0, 0
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or "not valid YAML"
    return str(problem), (mark.line + 1 if mark else 0), (mark.column + 1 if mark else 0)
