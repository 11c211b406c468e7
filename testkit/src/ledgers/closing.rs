//! What is left when everything has stopped.
//!
//! Owns the comparison with how it was before. Must not look by itself: it is given what was seen.

use crate::census::Holdings;

/// The census at the end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Live processes that the run has left.
    pub orphans: Vec<u32>,
    /// What this process held before the run.
    pub before: Holdings,
    /// And holds now.
    pub after: Holdings,
}

impl Closing {
    /// Demands that nothing is left.
    ///
    /// # Errors
    /// Everything that is, each as a sentence.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut wrong = Vec::new();
        if !self.orphans.is_empty() {
            wrong.push(format!("processes are left: {:?}", self.orphans));
        }
        if !self.after.children.is_empty() {
            wrong.push(format!("children are left: {:?}", self.after.children));
        }
        for (what, before, after) in [
            ("open files", self.before.files, self.after.files),
            ("threads", self.before.threads, self.after.threads),
        ] {
            if before != after {
                wrong.push(format!("{after} {what}, and {before} before"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}
