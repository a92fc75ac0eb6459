package command

// partialSort brings the count smallest elements of a to its beginning, in order; what follows is in none. It is not stable, and
// has the order that Redis gives equal elements: the quicksort of Bentley and McIlroy, "Engineering a Sort Function" (1993), that
// leaves out the parts beyond count.
func partialSort[T any](a []T, count int, compare func(x, y *T) int) {
	s := partialSorter[T]{a, count, compare}
	s.sort(0, len(a))
}

type partialSorter[T any] struct {
	a       []T
	count   int
	compare func(x, y *T) int
}

func (s *partialSorter[T]) cmp(i, j int) int { return s.compare(&s.a[i], &s.a[j]) }
func (s *partialSorter[T]) swap(i, j int)    { s.a[i], s.a[j] = s.a[j], s.a[i] }

// sort sorts the elements from low to before high.
func (s *partialSorter[T]) sort(low, high int) {
	for high-low >= 7 && low < s.count {
		s.swap(low, s.pivot(low, high))
		less, more, moved := s.split(low, high)
		if !moved { // probably in order
			break
		}
		if less > 1 {
			s.sort(low, low+less)
		}
		if low = high - more; more <= 1 {
			return
		}
	}
	if low >= s.count {
		return
	}
	for i := low + 1; i < high; i++ {
		for j := i; j > low && s.cmp(j-1, j) > 0; j-- {
			s.swap(j-1, j)
		}
	}
}

// pivot returns the place of the middle element, of a median of three, or of a median of three medians, the more elements there are.
func (s *partialSorter[T]) pivot(low, high int) int {
	n := high - low
	middle := low + n/2
	if n == 7 {
		return middle
	}
	first, last := low, high-1
	if n > 40 {
		d := n / 8
		first = s.median(first, first+d, first+2*d)
		middle = s.median(middle-d, middle, middle+d)
		last = s.median(last-2*d, last-d, last)
	}
	return s.median(first, middle, last)
}

func (s *partialSorter[T]) median(a, b, c int) int {
	if s.cmp(a, b) < 0 {
		if s.cmp(b, c) < 0 {
			return b
		}
		if s.cmp(a, c) < 0 {
			return c
		}
		return a
	}
	if s.cmp(b, c) > 0 {
		return b
	}
	if s.cmp(a, c) < 0 {
		return a
	}
	return c
}

// split brings what is less than the element at low to the beginning and what is more to the end, and says how many these are.
// What equals it waits at both ends until the rest is split, and then goes in between. moved is false if all was in its place.
func (s *partialSorter[T]) split(low, high int) (less, more int, moved bool) {
	equalLeft, left, right, equalRight := low+1, low+1, high-1, high-1
	for {
		for left <= right {
			r := s.cmp(left, low)
			if r > 0 {
				break
			}
			if r == 0 {
				s.swap(equalLeft, left)
				equalLeft++
				moved = true
			}
			left++
		}
		for left <= right {
			r := s.cmp(right, low)
			if r < 0 {
				break
			}
			if r == 0 {
				s.swap(right, equalRight)
				equalRight--
				moved = true
			}
			right--
		}
		if left > right {
			break
		}
		s.swap(left, right)
		left, right, moved = left+1, right-1, true
	}
	if !moved {
		return 0, 0, false
	}
	s.exchange(low, left, min(equalLeft-low, left-equalLeft))
	s.exchange(left, high, min(equalRight-right, high-1-equalRight))
	return left - equalLeft, equalRight - right, true
}

// exchange swaps n elements from from on with the n before end.
func (s *partialSorter[T]) exchange(from, end, n int) {
	for i := range n {
		s.swap(from+i, end-n+i)
	}
}
