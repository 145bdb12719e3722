//! The iterators of a receiver, the same for the general channels and for those of one sender and one receiver.

/// Defines them for the `Receiver<T>` of the module it stands in.
macro_rules! iterators {
    () => {
        /// See [`Receiver::iter`].
        pub struct Iter<'receiver, T> {
            receiver: &'receiver Receiver<T>,
        }

        /// See [`Receiver::try_iter`].
        pub struct TryIter<'receiver, T> {
            receiver: &'receiver Receiver<T>,
        }

        /// The values of a receiver that it owns; see [`Receiver::iter`].
        pub struct IntoIter<T> {
            receiver: Receiver<T>,
        }

        impl<T> Iterator for Iter<'_, T> {
            type Item = T;

            fn next(&mut self) -> Option<T> {
                self.receiver.recv().ok()
            }
        }

        impl<T> Iterator for TryIter<'_, T> {
            type Item = T;

            fn next(&mut self) -> Option<T> {
                self.receiver.try_recv().ok()
            }
        }

        impl<T> Iterator for IntoIter<T> {
            type Item = T;

            fn next(&mut self) -> Option<T> {
                self.receiver.recv().ok()
            }
        }

        impl<'receiver, T> IntoIterator for &'receiver Receiver<T> {
            type Item = T;
            type IntoIter = Iter<'receiver, T>;

            fn into_iter(self) -> Self::IntoIter {
                self.iter()
            }
        }

        impl<T> IntoIterator for Receiver<T> {
            type Item = T;
            type IntoIter = IntoIter<T>;

            fn into_iter(self) -> Self::IntoIter {
                IntoIter { receiver: self }
            }
        }
    };
}
