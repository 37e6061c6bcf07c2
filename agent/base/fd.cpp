// SPDX-License-Identifier: Apache-2.0
#include "base/fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

namespace mesh::base {

Result<std::string> read_file(const std::string& path, std::size_t limit_bytes) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "open " + path);
  std::string content;
  struct stat status{};
  if (::fstat(fd.get(), &status) == 0 && status.st_size > 0) {
    content.reserve(std::min<std::size_t>(static_cast<std::size_t>(status.st_size), limit_bytes) + 1);
  }
  char buffer[65536];
  while (true) {
    const ssize_t count = ::read(fd.get(), buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "read " + path);
    if (count == 0) return content;
    if (content.size() + static_cast<std::size_t>(count) > limit_bytes) {
      return fail(ErrorKind::kExhausted, "read " + path + ": larger than " + std::to_string(limit_bytes) + " bytes");
    }
    content.append(buffer, static_cast<std::size_t>(count));
  }
}

Result<void> write_file_atomically(const std::string& path, std::string_view content, unsigned mode) {
  const std::string temporary = path + ".tmp." + std::to_string(::getpid());
  Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd.valid()) return fail_errno(errno, "create " + temporary);
  const auto abandon = [&](std::string_view doing) {
    const int errnum = errno;
    ::unlink(temporary.c_str());
    return fail_errno(errnum, std::string(doing) + " " + temporary);
  };
  while (!content.empty()) {
    const ssize_t count = ::write(fd.get(), content.data(), content.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return abandon("write");
    content.remove_prefix(static_cast<std::size_t>(count));
  }
  if (::fsync(fd.get()) != 0) return abandon("fsync");
  fd.reset();
  if (::rename(temporary.c_str(), path.c_str()) != 0) return abandon("rename to " + path + " from");
  const auto slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const Fd folder_fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder_fd.valid()) ::fsync(folder_fd.get());
  return {};
}

}  // namespace mesh::base
