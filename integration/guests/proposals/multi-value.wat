;; A function with two results, and a block with a parameter.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (func $two (result i32 i32) (i32.const 30) (i32.const 12))
  (func (export "_start")
    (call $two)
    (block (param i32 i32) (result i32) (i32.add))
    (call $exit)))
