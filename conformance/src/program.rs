//! Speaking to programs that have a language of their own.
//!
//! Owns what each of them is told. Must not know how a prompt is framed: that is its profile's. Invariant: adding a
//! program is one entry of the table.

use async_trait::async_trait;

use crate::speech::{Endless, Expected, Fault, Speech, Spoken};

/// A program for which every prompt is a program. `{text}` is a text without quotes in its language's own quotes; the
/// other marks are words and numbers.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The name of its profile.
    pub name: &'static str,
    /// Prints `{text}`.
    say: &'static str,
    /// Prints how long `{text}` is.
    length: &'static str,
    /// Keeps `{number}` under its own name, and prints nothing.
    remember: &'static str,
    /// Prints `{number}` if it was kept.
    recall: &'static str,
    /// Prints `begun`, and does not end.
    endless: &'static str,
    /// Prints an `x` for a million times.
    long: &'static str,
    /// Makes `{text}` the one line of `{file}`.
    edit: Option<&'static str>,
    /// Runs `{text}` with a shell.
    shell: Option<&'static str>,
    /// Whether its answers are read from a screen, which has no blanks at the ends of lines.
    screen: bool,
}

const PROGRAMS: [Program; 6] = [
    Program {
        name: "bash",
        say: "printf '%s\\n' '{text}'",
        length: "x='{text}'; echo ${#x}",
        remember: "kept_{number}=yes",
        recall: "echo ${kept_{number}+{number}}",
        endless: "echo begun; sleep infinity",
        long: "printf '%1000000s' '' | tr ' ' x",
        edit: Some("echo '{text}' > {file}"),
        shell: Some("{text}"),
        screen: false,
    },
    Program {
        name: "python",
        say: "print('''{text}''')",
        length: "len('''{text}''')",
        remember: "kept_{number} = True",
        recall: "print({number} if 'kept_{number}' in globals() else '')",
        endless: "import time; print('begun'); time.sleep(100000)",
        long: "print('x' * 1000000)",
        edit: Some("print('{text}', file=open('{file}', 'w'))"),
        shell: Some("import subprocess; subprocess.run('''{text}''', shell=True) and None"),
        screen: false,
    },
    Program {
        name: "node",
        say: "console.log(`{text}`)",
        length: "`{text}`.length",
        remember: "globalThis.kept_{number} = true; undefined",
        recall: "'kept_{number}' in globalThis ? {number} : undefined",
        endless: "console.log('begun'); new Promise(() => {})",
        long: "console.log('x'.repeat(1000000))",
        edit: Some("require('fs').writeFileSync('{file}', `{text}\\n`)"),
        shell: Some("require('child_process').execSync(`{text}`, { stdio: 'inherit' }); undefined"),
        screen: false,
    },
    Program {
        name: "bc",
        say: "print \"{text}\\n\"",
        length: "x = 1 /* {text} */ + {length} - 1\nx",
        remember: "kept_{number} = {number}",
        recall: "if (kept_{number}) print kept_{number}",
        endless: "print \"begun\\n\"; while (1) {}",
        long: "for (i = 0; i < 20000; i++) print \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"",
        edit: None,
        shell: None,
        screen: false,
    },
    Program {
        name: "sqlite3",
        say: "select '{text}';",
        length: "select length('{text}');",
        remember: "create table kept_{number} (x);",
        recall: "select {number} from sqlite_master where name = 'kept_{number}';",
        endless: "select 'begun';\nwith recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n;",
        long: "select replace(hex(zeroblob(500000)), '0', 'x');",
        edit: Some("select writefile('{file}', '{text}' || char(10)) > 0;"),
        shell: Some(".shell {text}"),
        screen: false,
    },
    Program {
        name: "bash-terminal",
        say: "printf '%s\\n' '{text}'",
        length: "x='{text}'; echo ${#x}",
        remember: "kept_{number}=yes",
        recall: "echo ${kept_{number}+{number}}",
        // What is still on the screen is no part of a reply before its end.
        endless: "yes begun | head -n 100; sleep infinity",
        long: "printf '%1000000s' '' | tr ' ' x",
        edit: Some("echo '{text}' > {file}"),
        shell: Some("{text}"),
        screen: true,
    },
];

impl Program {
    /// The program whose profile has that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROGRAMS.iter().find(|program| program.name == name)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        PROGRAMS.iter()
    }

    fn no_model<T>() -> Result<T, String> {
        Err("no model".to_owned())
    }
}

#[async_trait]
impl Speech for Program {
    fn say(&self, text: &str) -> Spoken {
        let shown: Vec<&str> = match self.screen {
            true => text.lines().map(str::trim_end).collect(),
            false => vec![text],
        };
        Spoken {
            prompt: self.say.replace("{text}", text),
            expected: Expected::exactly(shown.join("\n")),
        }
    }

    fn large(&self, bytes: usize) -> Spoken {
        let length = bytes - self.length.len();
        let answer = length.to_string();
        Spoken {
            prompt: self
                .length
                .replace("{text}", &"x".repeat(length))
                .replace("{length}", &answer),
            expected: match self.screen {
                true => Expected::Ends(answer),
                false => Expected::Exactly(vec![answer]),
            },
        }
    }

    fn forged(&self) -> Result<Spoken, String> {
        Ok(self.say("0123456789abcdef0123456789abcdef\n{nonce}\nstandin ready\n>>> \n> \n0123456789abcdef0123456789abcdef end\n$ "))
    }

    fn commands(&self) -> Result<Vec<Spoken>, String> {
        Err("every prompt is a program".to_owned())
    }

    fn remember(&self, number: usize) -> Spoken {
        Spoken {
            prompt: self.remember.replace("{number}", &number.to_string()),
            expected: Expected::exactly(""),
        }
    }

    fn recall(&self, number: usize, known: bool) -> Spoken {
        let number = number.to_string();
        Spoken {
            prompt: self.recall.replace("{number}", &number),
            expected: Expected::exactly(if known { &number } else { "" }),
        }
    }

    fn endless(&self, _number: usize) -> Endless {
        Endless {
            prompt: self.endless.to_owned(),
            begins: Some("begun".to_owned()),
        }
    }

    fn long(&self, bytes: usize) -> Spoken {
        Spoken {
            prompt: self.long.to_owned(),
            expected: Expected::exactly("x".repeat(bytes)),
        }
    }

    fn edit(&self, file: &str, line: &str) -> Result<String, String> {
        let edit = self.edit.ok_or("writes no files")?;
        Ok(edit.replace("{file}", file).replace("{text}", line))
    }

    fn shell(&self, command: &str) -> Result<String, String> {
        let shell = self.shell.ok_or("runs no commands")?;
        Ok(shell.replace("{text}", command))
    }

    fn fault(&self, _fault: Fault, _text: &str) -> Result<Spoken, String> {
        Self::no_model()
    }

    async fn asked(&self, _text: &str, _times: usize) {
        std::future::pending().await
    }
}
