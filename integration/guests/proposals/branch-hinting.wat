;; A hint that a branch is rarely taken.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (func (export "_start")
    (@metadata.code.branch_hint "\00")
    (if (i32.eqz (memory.size)) (then unreachable))
    (call $exit (i32.const 42)))
  (memory 1))
