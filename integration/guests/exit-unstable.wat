;; Ends with an exit code on WASI 0.0, which Rust and C made before 2020.
(module
  (import "wasi_unstable" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $proc_exit (i32.const 42))))
