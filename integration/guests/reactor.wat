;; A reactor: no _start, but _initialize and functions to call by name.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\0c\00\00\00\20\00\00\00\07\00\00\00")
  (data (i32.const 16) "initialized\n")
  (data (i32.const 32) "called\n")
  (func $print (param i32)
    (drop (call $fd_write (i32.const 1) (local.get 0) (i32.const 1) (i32.const 64))))
  (func (export "_initialize") (call $print (i32.const 0)))
  (func (export "work") (call $print (i32.const 8)))
  (func (export "fail") (call $proc_exit (i32.const 9))))
