// SPDX-License-Identifier: Apache-2.0
#include "datapath/pin_directory.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <sstream>

namespace mesh::datapath {
namespace {

constexpr char kDefaultMount[] = "/sys/fs/bpf";
constexpr std::size_t kProcFileMax = 4 << 20;

bool is_bpffs(const std::string& path) {
  struct statfs status{};
  return ::statfs(path.c_str(), &status) == 0 && status.f_type == BPF_FS_MAGIC;
}

std::string existing_ancestor(std::string path) {
  while (path.size() > 1 && ::access(path.c_str(), F_OK) != 0) {
    const auto slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    path.resize(std::max<std::size_t>(slash, 1));
  }
  return path;
}

base::Result<void> make_folders(const std::string& path) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string folder = path.substr(0, slash);
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return base::fail_errno(errno, "create " + folder);
    if (slash == std::string::npos) return {};
  }
}

/// The process that holds an flock on this inode, from /proc/locks ("1: FLOCK ADVISORY WRITE 812 00:2a:7 0 EOF").
std::optional<int> lock_holder(const struct stat& status) {
  const auto text = base::read_file("/proc/locks", kProcFileMax);
  if (!text) return std::nullopt;
  char wanted[64];
  std::snprintf(wanted, sizeof(wanted), "%02x:%02x:%lu", major(status.st_dev), minor(status.st_dev), status.st_ino);
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string number, kind, advisory, mode, inode;
    int pid = 0;
    fields >> number >> kind >> advisory >> mode >> pid >> inode;
    if (kind == "FLOCK" && inode == wanted) return pid;
  }
  return std::nullopt;
}

std::optional<unsigned> number_after(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  unsigned number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return number;
}

base::Result<void> remove_tree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return base::fail_errno(error.value(), "remove " + path);
  return {};
}

}  // namespace

base::Result<void> ensure_bpffs(const std::string& directory) {
  if (is_bpffs(existing_ancestor(directory))) return {};
  const bool below_default = directory.starts_with(std::string(kDefaultMount) + "/");
  if (below_default) {
    if (::mount("bpf", kDefaultMount, "bpf", 0, nullptr) == 0) return {};
    return base::fail_errno(errno, "mount a bpffs at /sys/fs/bpf", "run as root: mount -t bpf bpf /sys/fs/bpf");
  }
  return base::fail(base::ErrorKind::kUnsupported, "use " + directory + " for pins: it is not on a bpffs",
                    "mount one: mount -t bpf bpf " + existing_ancestor(directory) +
                        ", or set agent.bpffs to a directory below /sys/fs/bpf");
}

base::Result<PinDirectory> PinDirectory::lock(const std::string& directory) {
  MESH_CHECK(ensure_bpffs(directory));
  MESH_CHECK(make_folders(directory));
  return lock_existing(directory);
}

base::Result<PinDirectory> PinDirectory::lock_existing(const std::string& directory) {
  base::Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return base::fail_errno(errno, "open " + directory);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return base::fail_errno(errno, "look at " + directory);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return base::fail_errno(errno, "lock " + directory);
    const auto holder = lock_holder(status);
    return base::fail(base::ErrorKind::kConflict,
                      "lock " + directory + ": held by " +
                          (holder ? "process " + std::to_string(*holder) : std::string("another meshd")),
                      "stop that meshd, or set agent.bpffs to another directory");
  }
  struct stat now{};
  if (::stat(directory.c_str(), &now) != 0 || now.st_ino != status.st_ino) {
    return base::fail(base::ErrorKind::kConflict, "lock " + directory + ": it was removed by a detach meanwhile",
                      "try again");
  }
  return PinDirectory(directory, std::move(fd));
}

std::optional<unsigned> PinDirectory::current() const {
  char target[64];
  const ssize_t length = ::readlink((path_ + "/current").c_str(), target, sizeof(target));
  if (length <= 0) return std::nullopt;
  return number_after({target, static_cast<std::size_t>(length)}, "maps-");
}

std::vector<unsigned> PinDirectory::sets() const {
  std::vector<unsigned> numbers;
  for (const std::string& name : list_folder(path_)) {
    if (const auto number = number_after(name, "maps-")) numbers.push_back(*number);
  }
  std::ranges::sort(numbers);
  return numbers;
}

base::Result<void> PinDirectory::set_current(unsigned number) const {
  const std::string link = path_ + "/current";
  const std::string fresh = path_ + "/current-new";
  ::unlink(fresh.c_str());
  if (::symlink(("maps-" + std::to_string(number)).c_str(), fresh.c_str()) != 0) {
    return base::fail_errno(errno, "create " + fresh);
  }
  if (::rename(fresh.c_str(), link.c_str()) != 0) return base::fail_errno(errno, "replace " + link);
  return {};
}

base::Result<void> PinDirectory::make_new_set(unsigned number) const {
  const std::string folder = new_set_folder(number);
  if (::mkdir(folder.c_str(), 0700) != 0) return base::fail_errno(errno, "create " + folder);
  return {};
}

base::Result<void> PinDirectory::finish_new_set(unsigned number) const {
  if (::rename(new_set_folder(number).c_str(), set_folder(number).c_str()) != 0) {
    return base::fail_errno(errno, "rename to " + set_folder(number));
  }
  return {};
}

base::Result<void> PinDirectory::remove_set(unsigned number) const {
  const std::string dead = path_ + "/dead-" + std::to_string(number);
  if (::rename(set_folder(number).c_str(), dead.c_str()) != 0) return base::fail_errno(errno, "rename to " + dead);
  return remove_tree(dead);
}

base::Result<void> PinDirectory::remove_debris() const {
  for (const std::string& name : list_folder(path_)) {
    if (number_after(name, "new-") || number_after(name, "dead-")) MESH_CHECK(remove_tree(path_ + "/" + name));
  }
  return {};
}

base::Result<void> PinDirectory::remove_all() const { return remove_tree(path_); }

base::Result<std::string> current_set_folder(const std::string& directory) {
  const std::string link = directory + "/current";
  char target[64];
  const ssize_t length = ::readlink(link.c_str(), target, sizeof(target));
  if (length < 0) {
    return base::fail_errno(errno, "find a mesh in " + directory,
                            "name the folder of its pins with --bpffs, or its configuration with --config");
  }
  return directory + "/" + std::string(target, static_cast<std::size_t>(length));
}

std::vector<std::string> list_folder(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace mesh::datapath
