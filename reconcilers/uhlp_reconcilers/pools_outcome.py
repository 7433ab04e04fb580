"""What the sandboxes reconciler says of a deployment whose pools it has looked after."""

from uhlp_reconcilers.fleet import Fleet, Want
from uhlp_reconcilers.outcome import Done, Outcome, Retry, Waiting
from uhlp_state.documents import RegistryDoc


def packages_outcome(wanted: RegistryDoc, fleet: Fleet) -> Outcome | None:
    """What to say while the newest revision's packages are not there; None if they are. Raises Retry."""
    newest = wanted.revisions[0] if wanted.revisions else None
    if newest is None or all(
        (spec := newest.snapshot.pool_spec(name)) in fleet.survey.packages or fleet.serving(name, spec)
        for name in newest.snapshot.pools
    ):
        return None
    if delayed := fleet.survey.delayed.get(newest.commit):
        message, pause = delayed
        raise Retry("DependenciesUnavailable", message, after=pause, attempted=wanted.head)
    if progress := fleet.survey.pending.get(newest.commit):
        return Waiting("InstallingDependencies", progress, attempted=wanted.head, again_after=1.0)
    return None


def pools_outcome(wanted: RegistryDoc, fleet: Fleet, wants: list[Want], look: float | None) -> Outcome:
    """What there is now, and when to look again: in `look` seconds at the latest, if that is not None."""
    newest = wanted.revisions[0].commit if wanted.revisions else None
    for want in wants:
        running = len(fleet.serving(want.pool, want.spec))
        if running < want.count:
            message = f"pool {want.pool}: {running} of {want.count} new instances"
            return Waiting("ReplacingInstances", message, attempted=wanted.head, again_after=0.0)
    draining = sum(1 for held in fleet.held.values() if held.state == "draining")
    standby = sum(1 for held in fleet.held.values() if held.standby and held.state != "draining")
    message = f"{len(fleet.held) - draining - standby} instance(s)"
    message += f", {standby} standing by" if standby else ""
    message += f", {draining} draining" if draining else ""
    return Done("PoolsReady", message, attempted=wanted.head, applied=newest, again_after=look)
