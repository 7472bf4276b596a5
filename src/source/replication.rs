//! Where a server that is a replica itself stands in its own sources' binary logs.

/// One channel of a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaChannel {
    /// Empty for the default channel.
    pub name: String,
    /// File and position in the source's binary log up to which everything is applied; `None` before the first event.
    pub position: Option<(String, u64)>,
    /// It finds its position by GTID.
    pub auto_position: bool,
    /// Several workers apply, and the position is a lower bound: some of what follows may be applied too.
    pub parallel: bool,
}

/// A server that may be a replica, as its family asks it.
pub trait ReplicaStatus: Send {
    /// Where its channels stand now; none where it is no replica, or can no longer be asked.
    fn channels(&mut self) -> Vec<ReplicaChannel>;
}

/// The channels whose position at the cut is known, and words about the others. Those that go by GTID need none; `moved`:
/// some went on meanwhile.
pub fn known(channels: Vec<ReplicaChannel>, moved: bool) -> (Vec<ReplicaChannel>, Option<String>) {
    let (known, unknown): (Vec<_>, Vec<_>) = channels
        .into_iter()
        .partition(|c| c.auto_position || (c.position.is_some() && !moved && !c.parallel));
    let names: Vec<_> = unknown.iter().map(|c| format!("'{}'", c.name)).collect();
    let words = (!names.is_empty()).then(|| {
        format!(
            "xtrabackup_slave_info lacks the position of channel {}, which was being applied: STOP REPLICA SQL_THREAD while a \
             backup runs, or SOURCE_AUTO_POSITION=1",
            names.join(", ")
        )
    });
    (known, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positions_that_stood_still_are_known() {
        let position = Some(("b.000003".to_owned(), 157));
        let whole = ReplicaChannel { name: "c".into(), position, auto_position: false, parallel: true };
        let fresh =
            ReplicaChannel { name: String::new(), position: None, auto_position: true, parallel: false };
        let (given, words) = known(vec![whole.clone(), fresh.clone()], true);
        assert_eq!(given, [fresh]);
        assert!(words.unwrap().contains("channel 'c'"));
        let single = ReplicaChannel { parallel: false, ..whole };
        assert_eq!(known(vec![single.clone()], false), (vec![single.clone()], None));
        assert_eq!(known(vec![single], true).0, []);
    }
}
