;; Ten million calls in a row, for which no stack is large enough.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (func $count (param $left i32) (result i32)
    (if (result i32) (local.get $left)
      (then (return_call $count (i32.sub (local.get $left) (i32.const 1))))
      (else (i32.const 42))))
  (func (export "_start") (call $exit (call $count (i32.const 10000000)))))
