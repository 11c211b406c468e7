//! toolpool facade.
