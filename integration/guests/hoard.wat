;; Makes garbage-collected cells and keeps all of them.
(module
  (type $cell (struct (field $next (ref null $cell)) (field i64 i64 i64)))
  (func (export "_start")
    (local $first (ref null $cell))
    (loop $again
      (local.set $first (struct.new $cell (local.get $first) (i64.const 1) (i64.const 2) (i64.const 3)))
      (br $again))))
