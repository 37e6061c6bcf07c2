// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <string>
#include <string_view>
#include <utility>

#include "base/error.hpp"

namespace mesh::base {

/// Owns one file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// Reads a whole file of at most `limit_bytes`; a larger one is kExhausted and says so.
Result<std::string> read_file(const std::string& path, std::size_t limit_bytes);

/// Replaces a file atomically: temporary file beside it, fsync, rename, fsync of the folder. `mode` as in chmod(2).
Result<void> write_file_atomically(const std::string& path, std::string_view content, unsigned mode = 0644);

}  // namespace mesh::base
