//! Carries out what is to be done, stage by stage, around what the kernel refuses.
//!
//! After a stage in which something was refused the rest is planned anew with
//! that in sight: what must be closed for it is closed in the same round, and
//! everything else goes on ([`kube_ipvs_core::refused`]).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use kube_ipvs_core::diff::{Touched, diff, diff_touched};
use kube_ipvs_core::model::Model;
use kube_ipvs_core::plan::{Op, Plan};
use kube_ipvs_core::refused::{parts, together};
use kube_ipvs_core::{Change, Refused};
use kube_ipvs_dataplane::{ApplyReport, Dataplane, Nature, Refusal};

use super::refusals::Subject;
use super::{Drift, Round, Syncer, Trigger};

/// Parts refused in one transaction that are told apart; more than so many
/// are a refusal of the table as a whole.
const MOST_GUILTY: usize = 32;

/// What a round is about.
pub(super) enum Scope {
    /// All there is.
    Everything,
    /// What was touched.
    Only(Touched),
}

/// What became of a stage.
struct Stage<'a> {
    report: ApplyReport,
    /// What was done of it.
    done: Cow<'a, Plan>,
}

/// What a round has met so far.
#[derive(Default)]
struct Met {
    /// What was said to be missing, and is believed once.
    missing: BTreeSet<Change>,
    /// Something is not as we thought: the next round looks at everything.
    look: bool,
}

impl<D: Dataplane> Syncer<D> {
    fn plan_for(&self, scope: &Scope) -> Plan {
        let known = self.known.as_ref().expect("the callers made sure").state();
        let wanted = self.wanted(known);
        match scope {
            Scope::Everything => diff(&wanted, known, &self.terms(self.ownership.all())),
            Scope::Only(touched) => {
                let terms = self.terms(self.ownership.among(&touched.virtual_servers));
                diff_touched(&wanted, known, touched, &terms)
            }
        }
    }

    /// Brings what the scope names to what it should be.
    pub(super) fn carry_out(&mut self, now: u64, mut scope: Scope, trigger: Trigger) -> Round {
        let mut tried = Plan::default();
        let mut report = ApplyReport::default();
        let mut met = Met::default();
        let mut rest = self.plan_for(&scope);
        self.progress.begin(virtual_servers_made(&rest));
        let mut whole = true;
        while let Some(stage) = rest.next_stage() {
            let Stage { report: part, done } = self.carry_out_stage(&stage);
            self.ownership.disclaim(&done);
            self.learn(&done);
            let refused = part.refused.clone();
            tried.append(stage);
            report.extend(part);
            if refused.is_empty() {
                continue;
            }
            let planned = self.known.is_some()
                && refused
                    .into_iter()
                    .all(|r| self.meet(now, r, &mut scope, &mut met));
            if !planned {
                whole = false;
                self.known = None;
                break;
            }
            rest = self.plan_for(&scope);
        }
        self.progress.end();
        self.overtaken |= report.remade;
        self.forget_flows(now, &tried, &mut report);
        report.refused.extend(self.ownership.flush());
        if met.look || self.refusals.refused().tables() {
            self.known = None;
        }
        self.refusals
            .settle(whole && !self.refusals.refused().tables());
        self.refusals.set_tables(false);
        Round {
            trigger,
            plan: tried,
            report,
            drift: Drift::new(),
        }
    }

    /// Takes a refusal in; false when the rest cannot be planned for it.
    fn meet(&mut self, now: u64, refusal: Refusal, scope: &mut Scope, met: &mut Met) -> bool {
        let Some(change) = refusal.change else {
            // Nothing but a table can be refused as a whole and be known to be as it was.
            let again = self.refusals.refused().tables();
            self.refusals.set_tables(true);
            return refusal.nature == Nature::Whole && !again;
        };
        let mut touched = Touched::default();
        let desired = self.cluster.desired();
        let known = self.known.as_ref().expect("asked before").state();
        Refused::touch(&change, desired, known, &mut touched);
        if let Scope::Only(all) = scope {
            all.extend(touched);
        }
        match refusal.nature {
            // It is there, however it is: the look will tell.
            Nature::Exists => {
                met.look = true;
                true
            }
            Nature::Missing if met.missing.insert(change) => {
                met.look = true;
                self.forget(change);
                true
            }
            _ => {
                let new = self.refusals.hold(now, Subject::Change(change), refusal);
                if !new
                    && matches!(
                        change,
                        Change::Front(_) | Change::Guard(_) | Change::Hairpin(_)
                    )
                {
                    // Not even closed: no change of the table is of any use now.
                    self.refusals.set_tables(true);
                    return true;
                }
                new
            }
        }
    }

    /// What is not there after all is to be made anew.
    fn forget(&mut self, change: Change) {
        let Some(model) = self.known.take() else {
            return;
        };
        let mut state = model.into_state();
        match change {
            Change::EditRealServer(key, real)
                if state
                    .virtual_servers
                    .get(&key)
                    .is_some_and(|s| s.real_servers.contains_key(&real)) =>
            {
                let server = state.virtual_servers.get_mut(&key);
                server.map(|server| Arc::make_mut(server).real_servers.remove(&real));
            }
            _ => {
                let key = change.virtual_server();
                key.map(|key| state.virtual_servers.remove(&key));
            }
        }
        self.known = Some(Model::new(state));
    }

    fn carry_out_stage<'a>(&mut self, stage: &'a Plan) -> Stage<'a> {
        if let [Op::Table(_)] = stage.ops[..] {
            return self.change_tables(stage);
        }
        let mut report = ApplyReport::default();
        report
            .refused
            .extend(self.ownership.claim(stage, &self.cluster));
        let unclaimed = report.refused.iter().filter_map(|refusal| refusal.change);
        let stage = stage.without(&unclaimed.collect());
        if !stage.is_empty() {
            report.extend(self.dataplane.apply(&stage));
        }
        let lost = |refusal: &Refusal| refusal.change.is_none();
        if report.refused.iter().any(lost) {
            let done = Cow::default();
            return Stage { report, done };
        }
        let not_done = report.refused.iter();
        let not_done = not_done.filter(|refusal| refusal.nature != Nature::Exists);
        let not_done: BTreeSet<_> = not_done.filter_map(|refusal| refusal.change).collect();
        let done = if not_done.is_empty() {
            stage
        } else {
            Cow::Owned(stage.without(&not_done).into_owned())
        };
        Stage { report, done }
    }

    /// One transaction. When it is refused for something that stands in it, it
    /// is halved until that is found: nobody else pays for it.
    fn change_tables<'a>(&mut self, stage: &'a Plan) -> Stage<'a> {
        let mut report = self.dataplane.apply(stage);
        let Some(refusal) = report.refused.first() else {
            let done = Cow::Borrowed(stage);
            return Stage { report, done };
        };
        let mut done = Plan::default();
        if refusal.nature == Nature::Own {
            let whole = std::mem::take(&mut report.refused);
            match self.find_guilty(stage, &mut report, &mut done) {
                Some(guilty) => report.refused = guilty,
                None => report.refused = whole.into_iter().map(as_whole).collect(),
            }
        }
        let done = Cow::Owned(done);
        Stage { report, done }
    }

    /// Carries out the parts of a transaction that go through; gives the others.
    /// None when there is no telling them apart.
    fn find_guilty(
        &mut self,
        stage: &Plan,
        report: &mut ApplyReport,
        done: &mut Plan,
    ) -> Option<Vec<Refusal>> {
        let Some(Op::Table(edit)) = stage.ops.first() else {
            return None;
        };
        let parts = parts(edit);
        let mut guilty = Vec::new();
        let mut waiting = vec![&parts[..]];
        while let Some(some) = waiting.pop() {
            let op = together(some);
            let ops = vec![op];
            let mut tried = self.dataplane.apply(&Plan { ops: ops.clone() });
            let refused = std::mem::take(&mut tried.refused);
            report.extend(tried);
            let Some(refusal) = refused.into_iter().next() else {
                done.ops.extend(ops);
                continue;
            };
            match some {
                _ if refusal.nature != Nature::Own || guilty.len() == MOST_GUILTY => return None,
                [(change, _)] => guilty.push(Refusal::of(*change, Nature::Own, refusal.error)),
                several => {
                    let (first, second) = several.split_at(several.len() / 2);
                    waiting.extend([second, first]);
                }
            }
        }
        let all = guilty.len() == parts.len() && parts.len() > 1;
        (!all).then_some(guilty)
    }
}

/// How many virtual servers a plan makes.
fn virtual_servers_made(plan: &Plan) -> usize {
    let ops = plan.ops.iter();
    ops.filter(|op| matches!(op, Op::AddVirtualServer(..)))
        .count()
}

fn as_whole(refusal: Refusal) -> Refusal {
    Refusal {
        nature: Nature::Whole,
        ..refusal
    }
}
