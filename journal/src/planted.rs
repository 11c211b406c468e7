//! The switch for bugs that can be put in: that of the crate below, under this crate's name.

pub(crate) use toolpool_cluster::planted;
