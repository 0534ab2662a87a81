;; Functions of odd types, beside a _start that is not to run when another is called by name.
(module
  (memory (export "memory") 1)
  (func (export "_start") unreachable)
  (func (export "none"))
  (func (export "pair") (param i32 f64) (result f64 i32) (local.get 1) (local.get 0))
  (func (export "vector") (result v128) (v128.const i64x2 1 2))
  (func (export "takes_vector") (param v128)))
