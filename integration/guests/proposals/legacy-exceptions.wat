;; Exceptions as they were before they were standardized.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (tag $number (param i32))
  (func (export "_start")
    try
      i32.const 42
      throw $number
    catch $number
      call $exit
    end))
