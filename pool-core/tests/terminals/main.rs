//! Programs on terminals of their own: bash with its line editor and without, Python's own prompt, and IPython, which
//! draws with prompt_toolkit. A test whose program is missing says so and proves nothing.
//!
//! Nothing here waits for a time but the protocol's own quiet; ends of processes are awaited through their descriptors.

mod containment;
mod conversations;
mod support;
