//! Objects in the order of their keys, and the memory that they take: the part that the caches of
//! pods and of DaemonSets have in common.
//!
//! Objects that a new list does not contain stay until the list is complete, because objects of
//! different lists do not fit together. The file does not know the limit on memory.

pub trait ListEntry {
    fn key(&self) -> (&str, &str);

    /// The bytes that the object takes.
    fn weight(&self) -> usize;

    /// Set if the present list contains the object.
    fn listed_flag(&mut self) -> &mut bool;
}

pub struct BoundedList<T> {
    objects: Vec<T>,
    bytes: usize,
    /// Whether there was a complete list.
    is_complete: bool,
    /// The objects that were removed because of the memory limit.
    pub evicted: usize,
}

impl<T: ListEntry> BoundedList<T> {
    pub fn new(is_complete: bool) -> BoundedList<T> {
        BoundedList { objects: Vec::new(), bytes: 0, is_complete, evicted: 0 }
    }

    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.objects.iter()
    }

    /// The caller must not change the key or the weight of the object.
    pub fn at_mut(&mut self, at: usize) -> &mut T {
        &mut self.objects[at]
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.objects.iter_mut()
    }

    pub fn get(&self, key: (&str, &str)) -> Option<&T> {
        self.find(key).ok().map(|at| &self.objects[at])
    }

    fn find(&self, key: (&str, &str)) -> Result<usize, usize> {
        self.objects.binary_search_by(|object| object.key().cmp(&key))
    }

    /// A list begins, or begins again.
    pub fn begin(&mut self) {
        self.objects.iter_mut().for_each(|object| *object.listed_flag() = false);
    }

    /// The list is complete: objects that it did not contain are removed.
    pub fn finish(&mut self) {
        self.retain(|_, object| *object.listed_flag());
        self.objects.shrink_to_fit();
        self.is_complete = true;
    }

    /// Adds an object, or replaces the one with its key.
    pub fn put(&mut self, mut object: T) {
        *object.listed_flag() = true;
        self.bytes += object.weight();
        match self.find(object.key()) {
            Ok(at) => {
                let replaced = std::mem::replace(&mut self.objects[at], object);
                self.bytes -= replaced.weight();
            }
            Err(at) => self.objects.insert(at, object),
        }
    }

    pub fn remove(&mut self, key: (&str, &str)) {
        if let Ok(at) = self.find(key) {
            self.bytes -= self.objects.remove(at).weight();
        }
    }

    /// Removes the objects that do not stay, by their positions.
    pub fn evict(&mut self, stays: &[bool]) {
        self.evicted += stays.iter().filter(|stays| !**stays).count();
        self.retain(|at, _| stays[at]);
    }

    fn retain(&mut self, mut stays: impl FnMut(usize, &mut T) -> bool) {
        let mut at = 0;
        self.objects.retain_mut(|object| {
            let is_retained = stays(at, object);
            at += 1;
            if !is_retained {
                self.bytes -= object.weight();
            }
            is_retained
        });
    }
}
