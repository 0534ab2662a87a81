;; A table of references to functions that grows, and a null of the host.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (type $number (func (result i32)))
  (table $table 1 funcref)
  (elem declare func $number)
  (func $number (result i32) (i32.const 41))
  (func (export "_start")
    (drop (table.grow $table (ref.null func) (i32.const 9)))
    (table.set $table (i32.const 9) (ref.func $number))
    (call $exit (i32.add
      (call_indirect $table (type $number) (i32.const 9))
      (ref.is_null (ref.null extern))))))
