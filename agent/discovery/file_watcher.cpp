// SPDX-License-Identifier: Apache-2.0
#include "discovery/file_watcher.hpp"

#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <deque>
#include <unordered_set>

namespace mesh::discovery {
namespace {

constexpr std::uint32_t kMask =
    IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
constexpr int kMaxLinks = 40;  // as the kernel's own limit on symbolic links in one path

void prepend_parts(std::string_view path, std::deque<std::string>& parts) {
  std::vector<std::string> found;
  while (!path.empty()) {
    path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
    const std::string_view part = path.substr(0, path.find('/'));
    if (!part.empty() && part != ".") found.emplace_back(part);
    path.remove_prefix(part.size());
  }
  parts.insert(parts.begin(), found.begin(), found.end());
}

/// A new regular file with one name is being written: its close will be reported.
bool is_being_written(const std::string& path) {
  struct stat status{};
  return ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1;
}

}  // namespace

base::Result<FileWatcher> FileWatcher::make() {
  base::Fd fd(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!fd.valid()) return base::fail_errno(errno, "create an inotify instance", "raise fs.inotify.max_user_instances");
  return FileWatcher(std::move(fd));
}

void FileWatcher::add(const std::string& path) {
  if (ids_.contains(path)) return;
  const Id id = next_id_++;
  ids_.emplace(path, id);
  Target& target = targets_.emplace(id, Target{path, {}}).first->second;
  link(id, target);
}

void FileWatcher::remove(const std::string& path) {
  const auto found = ids_.find(path);
  if (found == ids_.end()) return;
  unlink(found->second, targets_.at(found->second));
  targets_.erase(found->second);
  ids_.erase(found);
}

void FileWatcher::link_to(Id id, Target& target, const std::string& folder, std::string name) {
  const int watch = ::inotify_add_watch(inotify_.get(), folder.c_str(), kMask);
  if (watch < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return;  // gone between looking and watching: its own event tells
    error_ = base::fail_errno(errno, "watch the folder " + folder,
                              errno == ENOSPC ? "raise fs.inotify.max_user_watches" : "")
                 .error();
    return;
  }
  Folder& entry = folders_[watch];
  entry.path = folder;
  (name.empty() ? entry.whole : entry.by_name[name]).push_back(id);
  target.links.push_back({watch, std::move(name)});
}

void FileWatcher::link(Id id, Target& target) {
  std::deque<std::string> parts;
  prepend_parts(target.path, parts);
  std::string folder = "/";
  int links_followed = 0;
  while (!parts.empty()) {
    const std::string part = std::move(parts.front());
    parts.pop_front();
    if (part == "..") {
      folder = folder.substr(0, std::max<std::size_t>(folder.rfind('/'), 1));
      continue;
    }
    const std::string path = (folder == "/" ? "/" : folder + "/") + part;
    struct stat status{};
    if (::lstat(path.c_str(), &status) != 0) return link_to(id, target, folder, part);
    if (S_ISLNK(status.st_mode)) {
      link_to(id, target, folder, part);
      std::array<char, PATH_MAX> text{};
      const ssize_t size = ::readlink(path.c_str(), text.data(), text.size());
      if (size <= 0 || ++links_followed > kMaxLinks) return;
      const std::string_view aim(text.data(), static_cast<std::size_t>(size));
      if (aim.starts_with('/')) folder = "/";
      prepend_parts(aim, parts);
    } else if (S_ISDIR(status.st_mode)) {
      folder = path;
      if (parts.empty()) link_to(id, target, folder, "");
    } else {
      link_to(id, target, folder, part);
      return;
    }
  }
}

void FileWatcher::unlink(Id id, Target& target) {
  for (const Link& link : target.links) {
    const auto found = folders_.find(link.watch);
    if (found == folders_.end()) continue;
    Folder& folder = found->second;
    if (link.name.empty()) {
      std::erase(folder.whole, id);
    } else if (const auto named = folder.by_name.find(link.name); named != folder.by_name.end()) {
      std::erase(named->second, id);
      if (named->second.empty()) folder.by_name.erase(named);
    }
    if (folder.unused()) {
      ::inotify_rm_watch(inotify_.get(), link.watch);
      folders_.erase(found);
    }
  }
  target.links.clear();
}

std::vector<std::string> FileWatcher::take_changes() {
  std::unordered_set<Id> changed;
  alignas(inotify_event) std::array<char, 65536> buffer;
  while (true) {
    const ssize_t size = ::read(inotify_.get(), buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    for (ssize_t at = 0; at < size;) {
      inotify_event event;
      std::memcpy(&event, buffer.data() + at, sizeof(event));
      const char* const name = buffer.data() + at + sizeof(event);
      at += static_cast<ssize_t>(sizeof(event) + event.len);
      if ((event.mask & IN_Q_OVERFLOW) != 0) {
        ++overflows_;
        for (const auto& [id, target] : targets_) changed.insert(id);
        continue;
      }
      const auto found = folders_.find(event.wd);
      if (found == folders_.end()) continue;
      Folder& folder = found->second;
      if (event.len == 0) {  // the folder itself went or moved
        for (const auto& [entry, ids] : folder.by_name) changed.insert(ids.begin(), ids.end());
        changed.insert(folder.whole.begin(), folder.whole.end());
        if ((event.mask & IN_IGNORED) != 0) folders_.erase(found);
        continue;
      }
      const auto named = folder.by_name.find(name);
      if (named == folder.by_name.end() && folder.whole.empty()) continue;
      if ((event.mask & (IN_CREATE | IN_ISDIR)) == IN_CREATE && is_being_written(folder.path + "/" + name)) continue;
      if (named != folder.by_name.end()) changed.insert(named->second.begin(), named->second.end());
      changed.insert(folder.whole.begin(), folder.whole.end());
    }
  }
  std::vector<std::string> paths;
  paths.reserve(changed.size());
  if (!changed.empty()) error_.reset();
  for (const Id id : changed) {
    Target& target = targets_.at(id);
    paths.push_back(target.path);
    // A link on the way may lead elsewhere now. New watches first, so that folders in common keep theirs.
    std::vector<Link> before = std::move(target.links);
    target.links.clear();
    link(id, target);
    Target old{{}, std::move(before)};
    for (const Link& now : target.links) {
      // The same folder and name were entered a second time: unlink() below would take both away.
      std::erase_if(old.links, [&](const Link& link) {
        if (link.watch != now.watch || link.name != now.name) return false;
        const auto folder = folders_.find(now.watch);
        auto& ids = now.name.empty() ? folder->second.whole : folder->second.by_name[now.name];
        ids.erase(std::find(ids.begin(), ids.end(), id));
        return true;
      });
    }
    unlink(id, old);
  }
  return paths;
}

}  // namespace mesh::discovery
