;; Prints from its start section, which runs when the module is instantiated.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\0e\00\00\00start section\n")
  (func $begin
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64))))
  (start $begin)
  (func (export "_start")))
