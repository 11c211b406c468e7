//! Nothing but the test beside it.
