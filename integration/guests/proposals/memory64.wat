;; A memory and a table with indices of 64 bits; the memory grows beyond 4 GiB.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (type $number (func (result i32)))
  (memory $memory i64 1)
  (table $table i64 1 funcref)
  (elem (table $table) (i64.const 0) func $number)
  (func $number (result i32) (i32.const 40))
  (func (export "_start")
    (drop (memory.grow (i64.const 0x10001)))
    (i32.store (i64.const 0x100000000) (i32.const 2))
    (call $exit (i32.add
      (i32.load (i64.const 0x100000000))
      (call_indirect $table (type $number) (i64.const 0))))))
