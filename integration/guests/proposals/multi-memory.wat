;; Two memories, and a copy from one to the other.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory $one 1)
  (memory $other 1)
  (data (memory $one) (i32.const 8) "\2a")
  (func (export "_start")
    (memory.copy $other $one (i32.const 100) (i32.const 8) (i32.const 1))
    (call $exit (i32.load8_u $other (i32.const 100)))))
