//! Sends the datafiles, or the pages of them that changed, by several threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::progress::Progress;
use crate::base::{Code, Error, Lsn, Result, Stop};
use crate::family::{ChangeQuery, SourceServer};
use crate::source::changed_pages::ChangedPages;
use crate::source::low_priority_reads::LowPriorityReads;
use crate::source::page_filter::{EveryPage, PageFilter, SinceLsn};
use crate::source::pages::EncryptedFiles;
use crate::source::pages::Reading;
use crate::source::session::Session;
use crate::stream::chain::Increment;
use crate::throttle::Throttle;

use super::deltas::DeltaWork;
use super::held_resources::HeldResources;
use super::{Backup, Changed, PageTracking, SendSummary, base, datafiles};

/// Time that a checkpoint is waited for, and the pause between two looks.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Has the server track pages, if that is wanted.
///
/// The next increment needs the pages written since this backup's checkpoint. Where tracking has just begun, the checkpoint
/// that the server makes for it is waited for, a little.
///
/// # Errors
/// [`Code::Unsupported`] if it can't, and must.
pub(super) fn track(
    server: &dyn SourceServer,
    session: &mut Session,
    wanted: PageTracking,
    stop: &Stop,
) -> Result<()> {
    if wanted == PageTracking::Off {
        return Ok(());
    }
    let Some(began) = server.track_pages(session, wanted == PageTracking::On)? else {
        return match wanted {
            PageTracking::On => Err(Error::new(Code::Unsupported, "the server does not track pages")
                .hint("INSTALL COMPONENT 'file://component_mysqlbackup', or leave out --page-tracking=on")),
            PageTracking::Auto | PageTracking::Off => Ok(()),
        };
    };
    let begun = Instant::now();
    while server.redo_lsns(session)?.checkpoint.is_some_and(|checkpoint| checkpoint < began)
        && begun.elapsed() < CHECKPOINT_PATIENCE
    {
        stop.check()?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

impl Backup<'_> {
    /// The settings of all reading threads; `in_order`: they read whole files.
    pub(super) fn reading<'a>(
        &'a self,
        filter: &'a dyn PageFilter,
        in_order: bool,
        encrypted: &'a EncryptedFiles,
    ) -> Reading<'a> {
        Reading {
            in_order,
            format: self.family.pages(),
            plain: self.plain_layout,
            owner: self.facts.owner,
            gives_way: (self.options.throttle == Throttle::Auto)
                .then(|| Arc::new(LowPriorityReads::new(self.facts.reads_past_cache()))),
            suspects: &self.suspects,
            filter,
            keyring: self.keyring,
            encrypted,
        }
    }

    /// Returns the base of the increment; `None` for a full backup.
    pub(super) fn increment(&self) -> Option<Increment> {
        self.options.since.as_ref().map(|base| Increment { from_lsn: base.to_lsn, base: base.identity })
    }

    /// The datafiles, or the pages of them that changed.
    pub(super) fn send_pages(&self, live: &mut HeldResources, summary: &mut SendSummary) -> Result<()> {
        let files = &self.inventory.datafiles;
        let Some(increment) = self.increment() else {
            let work = datafiles::Work::new(files, self.reading(&EveryPage, true, &self.encrypted));
            summary.throttle = self.read(live, || work.run(self.member_writer, self.pacer, self.progress))?;
            return Ok(());
        };
        let from = increment.from_lsn;
        let (listed, how) = match self.changed_pages(live, from)? {
            ChangedPages::Listed(listed) => (Some(listed), "found by page tracking".to_owned()),
            ChangedPages::Unknown(why) => (None, format!("all pages were read: {why}")),
        };
        let filter = SinceLsn(from);
        let work =
            DeltaWork::new(files, self.reading(&filter, listed.is_none(), &self.encrypted), listed.as_ref());
        summary.throttle = self.read(live, || work.run(self.member_writer, self.pacer, self.progress))?;
        let (sent, of) = (work.sent.into_inner(), work.pages.into_inner());
        summary.changed = Some(Changed { from, sent, of, how });
        Ok(())
    }

    /// Asks the server which pages have changed, if its answer would be complete.
    fn changed_pages(&self, live: &mut HeldResources, from: Lsn) -> Result<ChangedPages> {
        let Some(base) =
            self.options.since.as_ref().filter(|_| self.options.page_tracking != PageTracking::Off)
        else {
            return Ok(ChangedPages::Unknown("page tracking is not wanted".into()));
        };
        if let Err(why) = base::check_running(base, self.server_started) {
            return Ok(ChangedPages::Unknown(why));
        }
        let ask = ChangeQuery { from, force: self.options.page_tracking == PageTracking::On };
        self.server.changed_pages(live.session()?, &ask, self.stop)
    }

    /// Has several threads read, while this one talks to the server. Says how they were held back.
    fn read(&self, live: &mut HeldResources, work: impl Fn() -> Result<()> + Sync) -> Result<String> {
        let over = AtomicBool::new(false);
        let began = Instant::now();
        let governed = thread::scope(|scope| {
            let govern = |learning| {
                let part = || self.pacer.govern(learning, || over.load(Ordering::Acquire));
                thread::Builder::new().name("governor".into()).spawn_scoped(scope, part)
            };
            let governor = live.learning.take().and_then(|learning| {
                govern(learning)
                    .map_err(|e| self.failure.set(Error::io(Code::Internal, "can't start a thread", e)))
                    .ok()
            });
            let read = || self.failure.watch(&work);
            let readers: Vec<_> = (0..self.options.parallel)
                .filter_map(|n| {
                    match thread::Builder::new().name(format!("read-{n}")).spawn_scoped(scope, read) {
                        Ok(reader) => Some(reader),
                        Err(e) => {
                            self.failure.set(Error::io(Code::Internal, "can't start a thread", e));
                            None
                        }
                    }
                })
                .collect();
            self.attend(live, &readers);
            over.store(true, Ordering::Release);
            governor.map(|g| g.join().unwrap_or_else(|_| "auto, but its thread panicked".into()))
        });
        self.failure.check()?;
        let mean = Progress::get(&self.progress.reads) as f64 / began.elapsed().as_secs_f64();
        Ok(match (governed, self.options.throttle) {
            (Some(words), _) => format!("{words}, {mean:.0} reads/s on the mean"),
            (None, Throttle::Reads(n)) => format!("{n} reads/s, {mean:.1} made"),
            (None, _) => String::new(),
        })
    }
}
