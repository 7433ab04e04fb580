"""What somebody relies on who deploys with git: push, see it live, break it and be told, go back."""

from e2e.platform_under_test import ON_ONE_BACKEND, Platform, answering, app_files
from support.waiting import wait_until

HANDLER = "state/_jit_code/root/v1/handler.py"


def test_a_push_is_live_when_it_returns(platform: Platform) -> None:
    clone = platform.create("first", app_files("first", answering("one")))
    assert platform.answer("first") == {"answer": "one"}
    clone.deploy({HANDLER: answering("two")})
    assert platform.answer("first") == {"answer": "two"}


@ON_ONE_BACKEND
def test_an_app_answers_by_host_name_and_by_path(platform: Platform) -> None:
    platform.create("doors", app_files("doors", answering("here")))
    assert platform.answer("doors") == {"answer": "here"}
    assert platform.request("GET", "/apps/doors/").json == {"answer": "here"}
    assert platform.request("GET", "/", app="nobody").status == 404


@ON_ONE_BACKEND
def test_an_invalid_push_is_refused_with_every_problem_and_changes_nothing(platform: Platform) -> None:
    clone = platform.create("broken", app_files("broken", answering("good")))
    served = clone.head()
    clone.commit(
        {
            HANDLER: "def handle(input, context)\n    return 1\n",
            "state/component_registry.yaml": (
                "components:\n  - componentId: root\n    handlerTyp: JIT\n    targetPoolName: nowhere\n"
            ),
        }
    )
    pushed = clone.push()
    assert pushed.code == 1
    assert "state/_jit_code/root/v1/handler.py:1:27" in pushed.err
    assert "state/component_registry.yaml:3:5" in pushed.err
    assert "handlerType" in pushed.err
    assert "pre-receive hook declined" in pushed.err
    assert platform.answer("broken") == {"answer": "good"}
    assert clone.git("ls-remote", "origin", "refs/heads/main").out.split()[0] == served


def test_code_that_cannot_be_imported_never_takes_traffic(platform: Platform) -> None:
    clone = platform.create("unloadable", app_files("unloadable", answering("good")))
    good = clone.head()
    bad = clone.commit({HANDLER: "import no_such_module\n" + answering("bad")})
    pushed = clone.push()
    assert pushed.code == 0
    assert "✘ not live" in pushed.err
    assert "no_such_module" in pushed.err
    assert "handler.py:1" in pushed.err
    assert platform.answer("unloadable") == {"answer": "good"}

    (status,) = platform.uhlp("status", "unloadable", "--json").json["deployments"]
    assert (status["ready"], status["stalled"], status["reason"]) == (True, True, "HandlersNotLoadable")
    assert (status["attempted"], status["applied"]) == (bad, good)

    clone.git("revert", "--no-edit", "HEAD")
    pushed = clone.push()
    assert "✔ live at" in pushed.err
    (status,) = platform.uhlp("status", "unloadable", "--json").json["deployments"]
    assert (status["stalled"], status["applied"]) == (False, clone.head())


def test_git_revert_brings_the_old_answer_back_without_a_new_instance(platform: Platform) -> None:
    clone = platform.create("undo", app_files("undo", answering("old")))
    clone.deploy({HANDLER: answering("new")})
    instances = _instances(platform, "undo")
    clone.git("revert", "--no-edit", "HEAD")
    clone.deploy()
    assert platform.answer("undo") == {"answer": "old"}
    assert _instances(platform, "undo") == instances


@ON_ONE_BACKEND
def test_uhlp_rollback_commits_the_way_back(platform: Platform) -> None:
    clone = platform.create("rolled", app_files("rolled", answering("one")))
    first = clone.head()
    clone.deploy({HANDLER: answering("two")})
    clone.deploy({HANDLER: answering("three")})
    done = platform.uhlp("rollback", "rolled", "--to", first)
    assert done.code == 0, done.err
    assert platform.answer("rolled") == {"answer": "one"}
    clone.git("pull", "--quiet", "origin", "main")
    assert clone.git("log", "--format=%s", "-1").out.startswith("Rollback to " + first[:7])
    assert clone.git("diff", "--stat", first, "HEAD").out == ""


@ON_ONE_BACKEND
def test_main_can_be_neither_deleted_nor_rewritten(platform: Platform) -> None:
    clone = platform.create("keep", app_files("keep", answering("kept")))
    deleted = clone.push("origin", ":main")
    assert deleted.code == 1
    assert "cannot be deleted" in deleted.err
    clone.git("commit", "--amend", "--quiet", "--message", "Another past")
    rewritten = clone.push("--force", "origin", "HEAD:main")
    assert rewritten.code == 1
    assert "cannot be rewritten" in rewritten.err
    assert "git revert" in rewritten.err
    assert platform.answer("keep") == {"answer": "kept"}


@ON_ONE_BACKEND
def test_other_branches_are_kept_and_validated_but_not_served(platform: Platform) -> None:
    clone = platform.create("branches", app_files("branches", answering("main")))
    clone.commit({HANDLER: answering("idea")})
    pushed = clone.push("origin", "HEAD:idea")
    assert pushed.code == 0
    assert "kept idea" in pushed.err
    assert platform.answer("branches") == {"answer": "main"}
    clone.commit({HANDLER: "def"})
    assert clone.push("origin", "HEAD:idea").code == 1


def test_a_new_pool_definition_replaces_instances_without_losing_the_app(platform: Platform) -> None:
    clone = platform.create("resized", app_files("resized", answering("small")))
    before = _instances(platform, "resized")
    clone.deploy(app_files("resized", answering("large"), pool="      resourceLimits: {memoryLimit: 300M}\n"))
    assert platform.answer("resized") == {"answer": "large"}
    assert _instances(platform, "resized").isdisjoint(before)


def _instances(platform: Platform, app: str) -> set[str]:
    (status,) = platform.uhlp("status", app, "--json").json["deployments"]
    return {
        instance["instance"]
        for pool in status["pools"]
        for instance in pool["instances"]
        if instance["state"] == "ready"
    }


def test_a_new_app_is_live_when_its_command_returns(platform: Platform) -> None:
    created = platform.uhlp("app", "create", "begun")
    assert created.code == 0
    assert created.out.endswith("\n✔ live\n")
    assert platform.answer("begun") == {"message": "Hello, world!"}


def test_metrics_of_all_processes_are_served_in_one_place(platform: Platform) -> None:
    platform.create("counted", app_files("counted", answering("one")))
    for _ in range(3):
        platform.answer("counted")

    def counted() -> bool:
        text = platform.request("GET", "/metrics").body.decode()
        requests = 'uhlp_http_requests_total{app="counted",code="200",component="root"} 3.0' in text
        return requests and 'uhlp_reconcile_runs_total{daemon="routes",result="success"}' in text

    wait_until(counted, "the requests are counted, and the runs of other daemons")
    assert platform.request("GET", "/metrics", app="counted").status == 404
