"""Trees in memory, and a small app that is valid, for the tests to break one line at a time."""

import hashlib
from dataclasses import dataclass

from uhlp_state.tree_source import TreeEntry

DEFINITION = """\
appId: demo
displayName: Demo
sandboxPools:
  pools:
    - poolName: python
configuration:
  greeting: hello
"""

MODEL = 'llm: {providers: {main: {type: openai, apiKey: "secret:openai"}}, model: main/any}\n'
"""What an app with LLM components says besides."""

REGISTRY = """\
components:
  - componentId: hello
    handlerType: JIT
    targetPoolName: python
    taskDetails:
      script: _jit_code/hello/v1/handler.py
      function: handle
    routeMatcher:
      pathPattern: /hello/:name
      methods: [GET]
"""

HANDLER = """\
def handle(input, context):
    return {"hello": "world"}
"""

APP = {
    "state/app_definition.yaml": DEFINITION,
    "state/component_registry.yaml": REGISTRY,
    "state/_jit_code/hello/v1/handler.py": HANDLER,
}


@dataclass
class MemorySource:
    """A tree of files in memory; counts how often a file is read."""

    files: dict[str, bytes]
    modes: dict[str, int]
    reads: int = 0

    def entries(self):
        return [
            TreeEntry(path, self.modes.get(path, 0o100644), _blob(data), len(data))
            for path, data in self.files.items()
        ]

    def read(self, entry):
        self.reads += 1
        return self.files[entry.path]


def tree(files=None, *, modes=None):
    """A source of exactly these files."""
    encoded = {path: data.encode() if isinstance(data, str) else data for path, data in (files or {}).items()}
    return MemorySource(encoded, modes or {})


def app(changes=None, *, modes=None):
    """The valid app with files added or replaced; None removes one."""
    files = {**APP, **(changes or {})}
    return tree({path: data for path, data in files.items() if data is not None}, modes=modes)


def places(problems):
    """What tests compare: file, line, column and code of each problem."""
    return [(problem.file, problem.line, problem.column, str(problem.code)) for problem in problems]


def _blob(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
