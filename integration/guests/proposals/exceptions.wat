;; An exception that carries a number through a function.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (tag $number (param i32))
  (func $throws (throw $number (i32.const 42)))
  (func $passes (call $throws) unreachable)
  (func (export "_start")
    (block $caught (result i32)
      (try_table (catch $number $caught) (call $passes))
      unreachable)
    (call $exit)))
